import { fstatSync } from "node:fs";
import type { OwnedFd } from "../../../../../launcher/src/sys/fd.ts";
import { openFile } from "../../../../../launcher/src/sys/file-io.ts";
import { setNamespace } from "../../../../../launcher/src/sys/namespaces.ts";
import { AgentFailure } from "../agent-failure.ts";
import type { Peer } from "../peer.ts";

const OWN = "/proc/self/ns/net";
/**
 * Processes of the node itself, as hostPID shows them: its first one, and the container runtime's that started the agent.
 * Where the agent is not allowed to look at the first, as inside of some sandboxes, the other one will do.
 */
const ofNode = () => ["/proc/1/ns/net", `/proc/${process.ppid}/ns/net`];

/** The network namespace of a pod, held: it stays what it is even when all of the pod's processes end. */
export class NetworkNamespace implements Disposable {
  readonly #namespace: OwnedFd;
  readonly #own: OwnedFd;

  private constructor(namespace: OwnedFd, own: OwnedFd) {
    this.#namespace = namespace;
    this.#own = own;
  }

  /** That of the pinned peer. Throws AgentFailure where it is the node's or the agent's: nothing is ever changed there. */
  static of(peer: Peer): NetworkNamespace {
    using cleanup = new DisposableStack();
    using node = new DisposableStack();
    const namespace = cleanup.use(peer.openNetworkNamespace());
    const own = cleanup.use(openFile(OWN));
    if ([own, ...nodeNamespaces(node)].some((forbidden) => isSame(namespace, forbidden)))
      throw new AgentFailure(
        "NotAuthorized",
        "the pod is on the network of its node (hostNetwork), where nothing is wired; a machine needs a pod network",
      );
    cleanup.move();
    return new NetworkNamespace(namespace, own);
  }

  /**
   * Runs `work` in it, synchronously: sockets and devices that it opens belong to that namespace, and /proc/sys/net is
   * its own. Nothing else runs on this thread meanwhile, so two never interleave.
   */
  inside<Result>(work: () => Result): Result {
    setNamespace(this.#namespace.fd, "network");
    try {
      return work();
    } finally {
      this.#leave();
    }
  }

  [Symbol.dispose](): void {
    this.#namespace[Symbol.dispose]();
    this.#own[Symbol.dispose]();
  }

  #leave(): void {
    try {
      setNamespace(this.#own.fd, "network");
    } catch {
      // Whatever came next would be done to a pod in another one's name.
      process.abort();
    }
  }
}

/** Throws AgentFailure where none can be opened: a pod on the node's network could not be told from others. */
function nodeNamespaces(cleanup: DisposableStack): readonly OwnedFd[] {
  const found = ofNode().flatMap((path) => {
    try {
      return [cleanup.use(openFile(path))];
    } catch {
      return [];
    }
  });
  if (found.length === 0)
    throw new AgentFailure(
      "Internal",
      "the agent cannot see the node's network namespace; it must be privileged, with hostPID",
    );
  return found;
}

function isSame(a: OwnedFd, b: OwnedFd): boolean {
  const [left, right] = [fstatSync(a.fd, { bigint: true }), fstatSync(b.fd, { bigint: true })];
  return left.ino === right.ino && left.dev === right.dev;
}
