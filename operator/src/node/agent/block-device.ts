import { fstatSync, open, readFileSync } from "node:fs";
import type { AgentWant } from "../../../../launcher/api/agent.ts";
import { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { openFlags } from "../../../../launcher/src/sys/file-io.ts";
import { openInRoot } from "../../../../launcher/src/sys/open-in-root.ts";
import { AgentFailure } from "./agent-failure.ts";
import type { Peer } from "./peer.ts";

/** A device that hangs costs one thread of libuv's pool and the one who asked, not the agent. */
const OPEN_TIMEOUT_MS = 5_000;

/**
 * File systems that container runtimes keep device nodes on. On others, above all FUSE, a look at a file may run code
 * of the pod's, and wait for it.
 */
const TRUSTED_FILE_SYSTEMS: readonly string[] = ["tmpfs", "devtmpfs", "overlay"];

const IN_USE =
  "is in use on this node: by another virtual machine, or mounted, or by LVM or RAID; free it, or give this machine its own";

type BlockWant = Extract<AgentWant, { kind: "block" }>;

/**
 * Opens a block device that the peer names by a path in its own root. An image can hold any device node, so nothing is
 * opened before its number is known to be in `allowed`. Throws AgentFailure.
 */
export async function openBlockDevice(peer: Peer, want: BlockWant, allowed: ReadonlySet<bigint>): Promise<OwnedFd> {
  using cleanup = new DisposableStack();
  const node = cleanup.use(lookUp(peer, want.path));
  if (!TRUSTED_FILE_SYSTEMS.includes(fileSystemOf(peer, node)))
    throw new AgentFailure("NotAuthorized", `${want.path} is not on a file system that devices are given on`);
  const stat = fstatSync(node.fd, { bigint: true });
  if (!stat.isBlockDevice()) throw new AgentFailure("BadRequest", `${want.path} is not a block device`);
  if (!allowed.has(stat.rdev))
    throw new AgentFailure("NotAuthorized", `${want.path} is not a block volume of this pod`);
  cleanup.move();
  return await openAgain(node, want);
}

/** A handle on the node that touches no device, follows no link, and never waits for a file system. */
function lookUp(peer: Peer, path: string): OwnedFd {
  try {
    return openInRoot(peer.rootPath, path, { pathOnly: true, noFollow: true, noSymlinks: true, cachedOnly: true });
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") throw new AgentFailure("DeviceMissing", `${path} does not exist`);
    if (code === "ELOOP") throw new AgentFailure("NotAuthorized", `${path} has a symbolic link in it`);
    // Not in the kernel's cache, where a container's device nodes always are: it is not there, or not on their mount.
    if (code === "EAGAIN") throw new AgentFailure("DeviceMissing", `${path} does not exist, or not below /dev`);
    throw new AgentFailure("DeviceMissing", `${path} cannot be looked up (${code})`);
  }
}

/** Type of the file system that `node` is on, without asking that file system. */
function fileSystemOf(peer: Peer, node: OwnedFd): string {
  const mountId = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${node.fd}`, "utf8"))?.[1];
  // proc_pid_mountinfo(5): id, five fields, optional fields, " - ", type.
  const line = peer
    .read("mountinfo")
    .split("\n")
    .find((each) => each.startsWith(`${mountId} `));
  return line?.split(" - ")[1]?.split(" ", 1)[0] ?? "unknown";
}

/**
 * Opens what `node` stands for, and closes `node`; the path may mean something else by now. Even when this gives up,
 * `node` stays until the call has come back: its number would soon be another file's.
 */
function openAgain(node: OwnedFd, want: BlockWant): Promise<OwnedFd> {
  // Locks on a node are those of its container: who writes claims the device itself, once for its two descriptors.
  const exclusive = want.exclusive === true || (!want.readOnly && !want.direct);
  const flags = openFlags({ write: !want.readOnly, direct: want.direct, exclusive });
  return new Promise((resolve, reject) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      reject(
        new AgentFailure("Internal", `${want.path} does not open within ${OPEN_TIMEOUT_MS} ms; check its storage`),
      );
    }, OPEN_TIMEOUT_MS);
    open(`/proc/self/fd/${node.fd}`, flags, (error, fd) => {
      clearTimeout(timer);
      node[Symbol.dispose]();
      if (error?.code === "EBUSY") reject(new AgentFailure("DeviceBusy", `${want.path} ${IN_USE}`));
      else if (error !== null)
        reject(new AgentFailure("DeviceMissing", `${want.path} cannot be opened (${error.code})`));
      else if (late) new OwnedFd(fd)[Symbol.dispose]();
      else resolve(new OwnedFd(fd));
    });
  });
}

function codeOf(error: unknown): string {
  const code: unknown = Object(error).code;
  return typeof code === "string" ? code : "unknown error";
}
