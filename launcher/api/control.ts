import type { DiskConfig, InterfaceConfig, LinkState } from "./machine-config.ts";
import type { MigrationResult } from "./migration.ts";

/**
 * Launcher API: JSON over HTTPS with mutual TLS on the pod IP, and the same routes on a unix socket in the container.
 *
 *   GET  /v1/status[?waitFor=STATE[,STATE]&timeoutMs=N]  -> LauncherStatus (with waitFor: once a state is reached, or 408)
 *   POST /v1/pause | /v1/resume | /v1/power-button | /v1/reset  -> LauncherStatus
 *   POST /v1/stop  {"timeoutMs": N}                      -> 202 LauncherStatus; power button, then off
 *   POST /v1/disks/NAME/resize  {"sizeBytes": N}         -> LauncherStatus, once the guest is told of the new size
 *        Grows a disk: a file to N bytes; of a block device the size is read anew, and must be N or more by then.
 *        404 for an unknown disk, 400 for N that is no multiple of 512, 409 where the disk cannot grow or would shrink.
 *   POST /v1/disks/NAME/overlay-limit  {"bytes": N}      -> LauncherStatus
 *        How much of its volume the overlay of an image disk may take from now on; a guest that waits for more goes on. A
 *        limit below what it has takes nothing back. 400 for N below 2^20 or above 2^50, 404 for an unknown disk, 409 for
 *        one without an overlay.
 *   POST /v1/disks  DiskConfig                           -> LauncherStatus, once the disk is on the PCI bus (Attaching)
 *        Adds a disk to the running machine; the same one again changes nothing. 400 for a bad DiskConfig, 409 where another
 *        disk has the name, the disk cannot be opened, or the bus is full; code NotReady where an attachment's holder does
 *        not offer it yet.
 *   DELETE /v1/disks/NAME                                -> 202 LauncherStatus, once the guest is asked to give it up (Detaching)
 *        The disk is gone, and its files are closed, when the status has it no more. Asks again where it was asked before.
 *        404 for an unknown disk.
 *   POST /v1/interfaces  InterfaceConfig                 -> LauncherStatus, once the interface is on the PCI bus (Attaching)
 *        Adds an interface to the running machine; the same one again changes nothing, whatever its link is. 400 for a bad
 *        InterfaceConfig, 409 where another one has the name or the bus is full; code NotReady where its network cannot be
 *        had, because the pod does not have it yet, say.
 *   DELETE /v1/interfaces/NAME                           -> 202 LauncherStatus, once the guest is asked to give it up (Detaching)
 *        The interface is gone when the status has it no more. Asks again where it was asked before. 404 for an unknown one.
 *   POST /v1/interfaces/NAME/link  {"state": "up"|"down"}  -> LauncherStatus, once the guest is told
 *        404 for an unknown interface.
 *   POST /v1/suspend  {"directory": "/PATH"}             -> LauncherStatus, Ended with the reason Suspended: the machine is
 *        in files there, and `launcher run --restore` goes on from them, once. 409 where it cannot be; it runs on then.
 *   GET  /v1/console?access=read|write&history=true[&port=serial|virtio]
 *        -> 101, Upgrade: typevisor-console; then raw bytes both ways. When absent, access is read, history false, and
 *        port what the kernel's command line names last, or serial. Either side ends it by closing, half-closing included.
 *
 * Errors are `{ "error": { "code", "message" } }` with a 4xx or 5xx status.
 * Telemetry port, plain HTTP: /healthz (200 while the event loop turns), /readyz (200 once vCPUs run), /metrics.
 */

export const LAUNCHER_API_VERSION = 1;

/** Where the operator has launchers put their unix socket, and where `launcher console` looks for it. */
export const CONTROL_SOCKET_PATH = "/run/typevisor/launcher/control.sock";

/** Where the operator has launchers put the socket of a vsock, and where `launcher vsock` looks for it. */
export const VSOCK_SOCKET_PATH = "/run/typevisor/launcher/vsock.sock";

/** Protocol name in the Upgrade header of the console route. */
export const CONSOLE_UPGRADE = "typevisor-console";

/** The guest's ttyS0 and hvc0. */
export type ConsolePortName = "serial" | "virtio";

/**
 * Life of a machine:
 *   Starting -> Running <-> Paused; Running -> Stopping (power button pressed, waiting) -> Ended; any -> Ended.
 * A guest's reboot stays in Running (`reboots` counts).
 */
export type MachineState = "Starting" | "Running" | "Paused" | "Stopping" | "Ended";

export interface LauncherStatus {
  readonly apiVersion: typeof LAUNCHER_API_VERSION;
  readonly launcherVersion: string;
  readonly state: MachineState;
  /** Why the machine is in this state, in PascalCase; and a sentence. */
  readonly reason: string;
  readonly message: string;
  /** RFC 3339 with milliseconds; null before the first guest instruction. */
  readonly startedAt: string | null;
  /** Guest reboots and resets since the process started. */
  readonly reboots: number;
  /** True once the guest told of a kernel panic (pvpanic) since its last reset. */
  readonly guestPanicked: boolean;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Milliseconds since process start at which each step was done, in order. */
  readonly milestones: Readonly<Record<string, number>>;
  /** Exits of the guest by kind, e.g. "io:0x3f8", "mmio", "hlt". */
  readonly exits: Readonly<Record<string, number>>;
  /** Why the machine is Paused; present in that state alone. */
  readonly pause?: PauseStatus;
  /** In the order of the configuration; absent from launchers that cannot tell. */
  readonly disks?: readonly DiskStatus[];
  /** In the order of the configuration; absent from launchers that cannot tell. */
  readonly interfaces?: readonly InterfaceStatus[];
  /** What does the I/O of the disks that waits: io_uring, or threads where the kernel or seccomp refuses it. */
  readonly ioEngine?: IoEngineName;
  /** Why this launcher cannot move the machine to another one, a sentence each; empty where it can. */
  readonly cannotMove?: readonly string[];
  /** What the guest's processors have, wherever the machine began: the format of cpu-features.ts. */
  readonly cpuFeatures?: string;
}

export type IoEngineName = "io_uring" | "threads";

/** Both may hold at the same time: the guest runs once neither does. */
export interface PauseStatus {
  /** A pause was asked for, and not taken back. */
  readonly asked: boolean;
  /**
   * Names of the disks that wait for room in their storage (ENOSPC, EDQUOT, or the limit of an overlay). The launcher tries again by itself, and at
   * once when it is asked to resume.
   */
  readonly storageFull: readonly string[];
}

export interface DiskStatus {
  readonly name: string;
  /** As the guest sees it. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Of disks of images; absent from launchers that cannot tell. */
  readonly overlay?: OverlayStatus;
  /** Absent from launchers that cannot tell: Attached. */
  readonly state?: DiskState;
}

/** What the guest wrote beside its image, as its file system counts it. */
export interface OverlayStatus {
  readonly usedBytes: number;
  /** Absent where there is no limit. */
  readonly limitBytes?: number;
  /** A write needs more than the limit leaves, and waits. */
  readonly isFull: boolean;
}

/**
 *   Attaching -> Attached: the guest's driver has taken it, or a reset has made it one that was there from the start.
 *   any -> Detaching: the guest was asked to give it up, and may take its time, or never do it. A reset of the machine
 *   ends that; nothing else takes a disk away from a guest.
 */
export type DiskState = "Attaching" | "Attached" | "Detaching";

/** Body of POST /v1/interfaces. */
export type AttachInterfaceRequest = InterfaceConfig;

/** Body of POST /v1/disks. */
export type AttachDiskRequest = DiskConfig;

export interface InterfaceStatus {
  readonly name: string;
  /** As of a disk. Absent from launchers that cannot tell: Attached. */
  readonly state?: DiskState;
  /** As the guest is told, whatever it then uses. */
  readonly mac: string;
  readonly link: LinkState;
  readonly mtuBytes: number;
  /** Queue pairs that the guest may use. */
  readonly queues: number;
  /** What carries the frames: the kernel, or this process. */
  readonly dataPath: "vhost-net" | "inProcess";
  /** What DHCP and DHCPv6 give the guest, without prefix lengths; empty where the network beyond does that. */
  readonly addresses: readonly string[];
}

export interface ApiError {
  readonly error: { readonly code: ApiErrorCode; readonly message: string };
}

export type ApiErrorCode =
  | "BadRequest"
  | "NotFound"
  | "MethodNotAllowed"
  | "Conflict"
  | "Timeout"
  /** Not yet: the same request may do later. */
  | "NotReady"
  | "Forbidden"
  | "Internal";

/** Written to the termination message file when the launcher ends; the pod's exit code is `exitCodes[reason]`. */
export interface TerminationMessage {
  readonly version: 1;
  readonly reason: TerminationReason;
  /** A sentence: what happened, and what to do next where something can be done. */
  readonly message: string;
  /** Of a machine that has Migrated. */
  readonly migration?: MigrationResult;
}

export const exitCodes = {
  /** The guest powered itself off. */
  GuestPowerOff: 0,
  /** Asked to stop, and the guest powered itself off in time. */
  Stopped: 0,
  /** Asked to stop, the guest did not react in time and was switched off. */
  StopTimeout: 0,
  /** Asked to suspend: the machine is in files, and goes on from them (`launcher run --restore`). */
  Suspended: 0,
  /** The machine goes on in another launcher. */
  Migrated: 0,
  /** machine.json is unreadable or wrong. */
  ConfigInvalid: 64,
  /** Kernel or initrd missing, or not one. */
  BootImageInvalid: 65,
  /** A disk cannot be opened. */
  DiskUnavailable: 66,
  /** A TAP cannot be opened, or the pod's network is not what an interface needs. */
  NetworkUnavailable: 67,
  /** What the machine was to go on from cannot be used here, or never came. */
  StateInvalid: 67,
  /** /dev/kvm is missing, refused or too old, or memory cannot be had. */
  KvmUnavailable: 69,
  /** The node agent does not answer or refuses. */
  AgentUnavailable: 70,
  /** Triple fault: the guest's processor shut down. */
  GuestTripleFault: 80,
  /** KVM could not go on with the guest (internal error, failed entry). */
  KvmInternalError: 81,
  /** The guest reset itself again and again without running for long. */
  ResetStorm: 82,
  /** A defect of the launcher itself. */
  LauncherError: 90,
} as const;

export type TerminationReason = keyof typeof exitCodes;
