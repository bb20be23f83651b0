import { readFileSync } from "node:fs";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { fileKindOf } from "../../../../launcher/src/sys/file-kind.ts";
import { AgentFailure } from "./agent-failure.ts";
import type { Peer } from "./peer.ts";

const O_PATH = 0o10000000;

/**
 * Own descriptors of what `peer` has open as `fds`. Sockets and the like are refused, since they would lead around what
 * separates pods, and so are devices that the pod was not given. Throws AgentFailure.
 */
export function openOffered(peer: Peer, fds: readonly number[], allowed: ReadonlySet<bigint>): readonly OwnedFd[] {
  using cleanup = new DisposableStack();
  const copies = fds.map((fd) => cleanup.use(copyOf(peer, fd)));
  for (const copy of copies) check(copy, allowed);
  cleanup.move();
  return copies;
}

function copyOf(peer: Peer, fd: number): OwnedFd {
  try {
    return peer.copyDescriptor(fd);
  } catch (error) {
    const code: unknown = Object(error).code;
    if (code === "ESRCH") throw new AgentFailure("NotOffered", "the offering process has ended");
    throw new AgentFailure("BadRequest", `descriptor ${fd} cannot be taken over (${code})`);
  }
}

function check({ fd }: OwnedFd, allowed: ReadonlySet<bigint>): void {
  const { isFile, isBlockDevice, rdev } = fileKindOf(fd);
  if (!isFile && !isBlockDevice)
    throw new AgentFailure("BadRequest", "only regular files and block devices can be offered");
  if ((openFlagsOf(fd) & O_PATH) !== 0) throw new AgentFailure("BadRequest", "a file that is offered must be open");
  if (isBlockDevice && !allowed.has(rdev))
    throw new AgentFailure("NotAuthorized", "the device that is offered is not a block volume of the pod");
}

/** proc_pid_fdinfo(5): octal. */
function openFlagsOf(fd: number): number {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  return Number.parseInt(flags ?? "", 8);
}
