import { readFileSync } from "node:fs";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { openFile } from "../../../../launcher/src/sys/file-io.ts";
import { copyDescriptor, openPidFd, pidFdIsAlive } from "../../../../launcher/src/sys/process.ts";
import { peerCredentials, peerPidFd } from "../../../../launcher/src/sys/unix-socket.ts";
import { AgentFailure } from "./agent-failure.ts";

/** The process at the other end of a socket, pinned: no later process can take its place. */
export class Peer implements Disposable {
  readonly pid: number;
  readonly uid: number;
  readonly #pidFd: OwnedFd;
  /** Its directory in /proc, which is of this process only, even when its number is used again. */
  readonly #proc: OwnedFd;

  private constructor(pid: number, uid: number, pidFd: OwnedFd, proc: OwnedFd) {
    this.pid = pid;
    this.uid = uid;
    this.#pidFd = pidFd;
    this.#proc = proc;
  }

  /** Who connected, as the kernel vouches. Throws AgentFailure. */
  static of(socketFd: number): Peer {
    const { pid, uid } = peerCredentials(socketFd);
    if (pid === 0)
      throw new AgentFailure("Internal", "the agent does not see the asking process; it must run with hostPID");
    using cleanup = new DisposableStack();
    try {
      const pidFd = cleanup.use(pidFdOf(socketFd, pid));
      const proc = cleanup.use(openFile(`/proc/${pid}`));
      const peer = new Peer(pid, uid, pidFd, proc);
      // Alive now, so the directory that was opened before is its own.
      if (!peer.isAlive()) throw new AgentFailure("NotAPod", "the asking process has ended");
      cleanup.move();
      return peer;
    } catch (error) {
      const code: unknown = Object(error).code;
      if (code !== "ESRCH" && code !== "ENOENT") throw error;
      throw new AgentFailure("NotAPod", "the asking process has ended");
    }
  }

  isAlive(): boolean {
    return pidFdIsAlive(this.#pidFd.fd);
  }

  /** Its descriptor `fd`, as one of this process. Throws SysError. */
  copyDescriptor(fd: number): OwnedFd {
    return copyDescriptor(this.#pidFd.fd, fd);
  }

  /** A file of its directory in /proc. */
  read(name: "cgroup" | "mountinfo"): string {
    return readFileSync(`/proc/self/fd/${this.#proc.fd}/${name}`, "utf8");
  }

  /** The network namespace that it is in now. Throws AgentFailure. */
  openNetworkNamespace(): OwnedFd {
    try {
      return openFile(`/proc/self/fd/${this.#proc.fd}/ns/net`);
    } catch {
      throw new AgentFailure("NotAPod", "the asking process has ended");
    }
  }

  /** A path to its root directory. */
  get rootPath(): string {
    return `/proc/self/fd/${this.#proc.fd}/root`;
  }

  [Symbol.dispose](): void {
    this.#pidFd[Symbol.dispose]();
    this.#proc[Symbol.dispose]();
  }
}

/** Linux 6.5 tells the very process; before, the number is turned into one here, a moment after it connected. */
function pidFdOf(socketFd: number, pid: number): OwnedFd {
  try {
    return peerPidFd(socketFd);
  } catch {
    return openPidFd(pid);
  }
}
