import type { GuestAddresses, GuestPort } from "./agent.ts";

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
  /** First on the PCI bus, in order, so that disks do not rename them. At most INTERFACES_MAX; none when absent. */
  readonly interfaces?: readonly InterfaceConfig[];
  /** Streams between the guest and unix sockets; none when absent. */
  readonly vsock?: VsockConfig;
  /** When absent: 32 us and 50 %, and none where this process's CPU time is limited. */
  readonly polling?: PollingConfig;
  readonly console: ConsoleConfig;
  readonly control: ControlConfig;
  /** Live migration, to and from here; none when absent. */
  readonly migration?: MigrationConfig;
  /** Where /dev/kvm comes from: opened here, or asked of the node agent. */
  readonly kvm: { readonly devicePath: string } | { readonly agentSocketPath: string };
  /** Where the last word about the machine's end is written (JSON, see TerminationMessage); none when absent. */
  readonly terminationMessagePath?: string;
  /** After SIGTERM or stop: how long the guest has between the power button and being switched off. */
  readonly powerOffTimeoutMs: number;
  readonly log: { readonly level: "debug" | "info" | "warn" | "error" };
}

/**
 * After a request to a disk, or a frame, the next one is looked for, for a while that adapts, before the process sleeps. There
 * is none on a single processor.
 */
export interface PollingConfig {
  /** The longest time to look, in microseconds: 0 (never) to 1000. */
  readonly windowUs: number;
  /** How much of one processor's time it may take, 1 to 100. */
  readonly sharePercent: number;
}

export interface MachineIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
}

export type BootConfig = KernelBoot | FirmwareBoot;

/** UEFI firmware, which boots from the first disk that it can boot from. At least 64 MiB of memory. */
export interface FirmwareBoot {
  /** Absolute path of an ELF file with a PVH entry point: EDK2 as it is built for Cloud Hypervisor. */
  readonly firmwarePath: string;
}

export interface KernelBoot {
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
  readonly limits?: DiskLimits;
}

/** What the guest may ask of a disk, reads and writes together: 1 to 10^9 requests, 4096 to 10^12 bytes. */
export interface DiskLimits {
  readonly requestsPerSecond?: number;
  readonly bytesPerSecond?: number;
}

/**
 * What a disk stands on. Paths are absolute; sizes are bytes, multiples of 512, 512 to 2^50.
 * `files` and `cloudInit` are read-only by nature: their disk says `readOnly: true`, and `empty` says false.
 *
 * `copied` is for a launcher that takes its machine over (`launcher run --receive`), and tells it what its storage is. True: a
 * claim of its own, which the source does not have; the migration fills it with what the source's disk of the same name holds,
 * whatever kind that one is of. It is as large as that one to the byte; a `raw` path is overwritten (`sizeBytes` of it, which is for
 * that alone; all of it where that is absent), and a `directory` that has a disk.img already is refused, since nobody knows whose it is. False or absent: the very storage that the source has too
 * (ReadWriteMany). The source is not told, it hears it from the target; where both read one machine.json, `--copied DISK=BYTES`
 * of the target's command line says it of a `directory` or `raw`, and how large it is by now; `DISK=BYTES@PATH` has it at another path
 * too, and of the other kind where that is there: a directory or not. Without `--receive` it means nothing; disks of kinds
 * `image` and `empty` are always copied, and no read-only disk can be.
 */
export type DiskSource =
  /**
   * Read-only base file of an image by the containerDisk convention, raw or qcow2: the one file in `imageRoot`/disk, or
   * `path` inside `imageRoot`. Writes go to a sparse overlay file that is made anew at each start of the process. It takes
   * at most `overlayLimitBytes` (2^20 to 2^50) of its file system; writes that need more wait as for a full one.
   */
  | {
      readonly kind: "image";
      readonly imageRoot: string;
      readonly path?: string;
      readonly overlayPath: string;
      readonly overlayLimitBytes?: number;
    }
  /** A raw file or block device (a Block claim's device node, which the agent opens), written in place. */
  | { readonly kind: "raw"; readonly path: string; readonly copied?: boolean; readonly sizeBytes?: number }
  /** What another pod on the node (`launcher hold`, an attachment pod) offers to this one by way of the node agent. */
  | { readonly kind: "attachment"; readonly podUid: string }
  /**
   * A Filesystem claim that is mounted at `path`: its file disk.img, raw, written in place. Made sparse with `sizeBytes`
   * when missing (a read-only disk must have it), grown to `sizeBytes` when smaller, never shrunk. A symbolic link, or
   * anything else than a regular file, is refused.
   */
  | { readonly kind: "directory"; readonly path: string; readonly sizeBytes: number; readonly copied?: boolean }
  /** A sparse raw file at `path` in a directory that there is, made anew at each start of the process. */
  | { readonly kind: "empty"; readonly path: string; readonly sizeBytes: number }
  /**
   * ISO 9660 (Rock Ridge and Joliet names) of the regular files in `directory`, a mounted ConfigMap or Secret, as they
   * are when the process starts. `volumeLabel`: 1 to 32 of letters, digits, '_', '-' and '.'.
   */
  | { readonly kind: "files"; readonly directory: string; readonly volumeLabel: string }
  /**
   * Seed of cloud-init's NoCloud: ISO 9660 with the label cidata and the files user-data (a header alone when there is
   * no path), meta-data (instance-id and local-hostname) and, with a path, network-config. Read when the process starts.
   * `instanceId`: 1 to 128 of letters, digits, '_', '-' and '.'; `localHostname`: a DNS name of lower-case labels.
   */
  | {
      readonly kind: "cloudInit";
      readonly userDataPath?: string;
      readonly networkDataPath?: string;
      readonly instanceId: string;
      readonly localHostname: string;
    };

export const INTERFACES_MAX = 8;

export interface InterfaceConfig {
  /** DNS label, unique in the machine. */
  readonly name: string;
  /** Unicast, lower case, e.g. "02:5a:00:12:34:56". The attachment may know better: podIP has the pod's. */
  readonly mac: string;
  /** Queue pairs, 1 to 8; usually one a vCPU. */
  readonly queues: number;
  /** As the guest sees it from the start; the Launcher API changes it. */
  readonly link: LinkState;
  /** All but `tap` are wired by the node agent, and need `kvm.agentSocketPath`. */
  readonly attachment: InterfaceAttachment;
  /** "auto" takes vhost-net where the node has it and there are no limits, "inProcess" never. */
  readonly dataPath: "auto" | "inProcess";
  readonly limits?: InterfaceLimits;
  /** What DHCP tells besides addresses, routes and DNS. */
  readonly dhcp?: DhcpConfig;
}

export type LinkState = "up" | "down";

export type InterfaceAttachment =
  /** `ports`: what reaches the guest; all but the launcher's own when absent. */
  | { readonly kind: "masquerade"; readonly ports?: readonly GuestPort[] }
  | { readonly kind: "podIP" }
  /** `podInterface`: what Multus calls it in the pod, e.g. "net1". */
  | { readonly kind: "multus"; readonly podInterface: string }
  /**
   * A TAP that there is (`ip tuntap add ... mode tap vnet_hdr [multi_queue]`), for running by hand. With `guest` the
   * launcher answers DHCP and router solicitations, and lets out nothing but those addresses and the interface's MAC.
   */
  | { readonly kind: "tap"; readonly device: string; readonly guest?: GuestAddresses };

/** In each direction: 1 to 10^9 packets, 8000 to 10^13 bits. A frame of segments counts as one packet. */
export interface InterfaceLimits {
  readonly packetsPerSecond?: number;
  readonly bitsPerSecond?: number;
}

export interface DhcpConfig {
  /** DNS label or name. */
  readonly hostname?: string;
  /** IPv4 and IPv6 addresses; each family is told its own. At most 4. */
  readonly ntpServers?: readonly string[];
}

/**
 * A virtio-vsock. Who connects to `socketPath` and says `CONNECT PORT\n` is with that port of the guest, which
 * `OK PORT\n` confirms; what the guest connects to (port P of CID 2) is the unix socket at `socketPath`_P.
 */
export interface VsockConfig {
  /** Made by the launcher, mode 0600. At most VSOCK_PATH_MAX_BYTES. */
  readonly socketPath: string;
  /** Address of the guest: 3 to 4294967294. */
  readonly guestCid: number;
}

/** sun_path without its zero, and without the "_" and the longest port. */
export const VSOCK_PATH_MAX_BYTES = 96;

/**
 * The certificate is the machine's own and stands for client and server: a peer has to show one with the same common name,
 * signed by the same authority. PEM files; read when they are needed.
 */
export interface MigrationConfig {
  /** Where a launcher that was started with `--receive` listens; memory comes to the port above. */
  readonly address: string;
  /** At most 65534. */
  readonly port: number;
  readonly certPath: string;
  readonly keyPath: string;
  readonly caPath: string;
}

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
