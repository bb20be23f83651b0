/**
 * MachineConfig: what the operator (or a person) gives the launcher, as `machine.json`.
 * Fully resolved: paths are paths in the launcher's own file system, sizes are bytes, nothing is looked up elsewhere.
 */

/** Raised when a field changes meaning; a launcher refuses versions that it does not know. */
export const MACHINE_CONFIG_VERSION = 1;

export interface MachineConfig {
  readonly version: typeof MACHINE_CONFIG_VERSION;
  /** Who the machine is, for logs and metrics only. `uid` is a lower-case UUID. */
  readonly identity: MachineIdentity;
  readonly cpu: { /** 1 to 64. */ readonly count: number; readonly model: "Host" };
  readonly memory: { /** Multiple of 1 MiB, at least 16 MiB. */ readonly sizeBytes: number };
  readonly boot: BootConfig;
  /** Order is PCI order. */
  readonly disks: readonly DiskConfig[];
  readonly console: ConsoleConfig;
  readonly control: ControlConfig;
  /** Where /dev/kvm comes from: opened here, or asked of the node agent. */
  readonly kvm: { readonly devicePath: string } | { readonly agentSocketPath: string };
  /** Where the last word about the machine's end is written (JSON, see TerminationMessage); none when absent. */
  readonly terminationMessagePath?: string;
  /** After SIGTERM or stop: how long the guest has between the power button and being switched off. */
  readonly powerOffTimeoutMs: number;
  readonly log: { readonly level: "debug" | "info" | "warn" | "error" };
}

export interface MachineIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
}

export interface BootConfig {
  /** Directory that the two paths below are resolved in, symbolic links included; they can not leave it. */
  readonly imageRoot: string;
  /** bzImage or ELF, e.g. "/boot/vmlinuz". */
  readonly kernelPath: string;
  readonly initrdPath?: string;
  /** ASCII, at most 2047 bytes (x86 boot protocol, cmdline_size of the kernel applies as well). */
  readonly commandLine: string;
}

export interface DiskConfig {
  /** DNS label; the virtio-blk serial (GET_ID), at most 20 bytes. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Virtqueues, 1 to 64; usually one a vCPU, at most 8. */
  readonly queues: number;
  readonly source: DiskSource;
}

export type DiskSource =
  /**
   * Read-only raw base file of an image by the containerDisk convention: the one file in `imageRoot`/disk, or `path`
   * inside `imageRoot`. Writes go to a sparse overlay file that is made anew at each start of the process.
   */
  | { readonly kind: "image"; readonly imageRoot: string; readonly path?: string; readonly overlayPath: string }
  /** A raw file or block device, written in place. */
  | { readonly kind: "raw"; readonly path: string };

export interface ConsoleConfig {
  /** How much of the serial console's output is kept for those who attach later. */
  readonly historyBytes: number;
}

export interface ControlConfig {
  /** Unix socket of the Launcher API (mode 0600): for `kubectl exec POD -- console`. */
  readonly socketPath: string;
  /** HTTPS with mutual TLS; none when absent. */
  readonly https?: {
    readonly address: string;
    readonly port: number;
    /** PEM files; read again when they change. */
    readonly certPath: string;
    readonly keyPath: string;
    readonly caPath: string;
    /** Common names of client certificates that are let in. */
    readonly allowedClients: readonly string[];
  };
  /** Plain HTTP for kubelet and Prometheus: /readyz, /healthz, /metrics. None when absent. */
  readonly telemetry?: { readonly address: string; readonly port: number };
}
