import type { ChildProcess } from "node:child_process";

/** A machine with a KVM that is fit for Linux: this one, or a node VM on it. */
export interface LinuxLab {
  readonly kind: "host" | "node";
  /** Paths in the lab. */
  readonly paths: {
    /** Node.js. */
    readonly node: string;
    /** One directory a guest image, see guest-images.ts. */
    readonly guests: string;
    /** UEFI firmware for guests, as the launcher's image has it. */
    readonly firmware: string;
    /** For files of a test; on a disk, not in memory. */
    readonly scratch: string;
  };
  /** Brings dist/launcher to the lab as it is now; gives the directory there. */
  installLauncher(): Promise<string>;
  /** Runs one line of shell to its end and gives its standard output; rejects with CommandError. */
  run(line: string, input?: string): Promise<string>;
  /** Starts one line of shell; standard output and error are pipes. */
  start(line: string): ChildProcess;
  /** Makes a unix socket of the lab reachable on this machine, under the path given here, until it is disposed of. */
  reach(socketPath: string): Promise<{ readonly path: string } & AsyncDisposable>;
  /** What the kernel of the lab's own machine complained of since it was started: undefined when it is well. */
  kernelComplaint(): Promise<string | undefined>;
  /** Starts the machine afresh; everything that ran in it is gone. Only a node can do that. */
  restart(): Promise<void>;
}
