import type { Socket } from "node:net";
import type { LauncherStatus, MachineState, TerminationReason } from "../../api/control.ts";
import type { DiskConfig, InterfaceConfig, LinkState } from "../../api/machine-config.ts";
import type { HistogramReport } from "../measure/histogram.ts";
import type { DiskReport } from "../virtio/block/disks.ts";
import type { InterfaceReport } from "../virtio/net/interfaces.ts";
import type { VsockUse } from "../virtio/vsock/vsock-use.ts";

/** What the Launcher API may ask of a machine. Each call is idempotent: what is so already stays so. */
export interface MachineControls {
  status(): LauncherStatus;
  /**
   * All vCPUs are out of the guest when it resolves. Throws IllegalTransition while Starting, Stopping or Ended, and
   * PauseAborted.
   */
  pause(): Promise<void>;
  resume(): void;
  /** ACPI power button; the guest may ignore it. */
  pressPowerButton(): void;
  /** As the reset button: memory is loaded afresh, devices are reset, the process stays. */
  reset(): Promise<void>;
  /** Power button, then off after `timeoutMs`; resolves when the machine is Ended. A second call can only shorten it. */
  stop(timeoutMs: number): Promise<void>;
  readonly deviceControls: DeviceControls;
  /** What the disks have done, for metrics. */
  diskUse(): readonly DiskReport[];
  /** Spent on looking for the next request to a disk, or the next frame, for metrics. */
  readonly pollingSeconds: number;
  /** Seconds from the guest's exits until it was back with their answers, for metrics; null without vCPUs. */
  readonly roundTrips: HistogramReport | null;
  /** What the interfaces have carried, for metrics. */
  networkUse(): readonly InterfaceReport[];
  /** Streams to and from the guest; null without a vsock. */
  readonly vsock: VsockControls | null;
  /** Calls `listener` after each change of state; dispose to stop. */
  onState(listener: (state: MachineState) => void): Disposable;
  /** Resolves once, when the machine has ended and no vCPU thread is left. */
  readonly ended: Promise<{ readonly reason: TerminationReason; readonly message: string }>;
}

/** What may be asked of the devices of a running machine; MachineFrozen while it is saved or moved. */
export interface DeviceControls {
  /**
   * Makes a disk larger, and tells the guest. Rejects with UnknownDisk, with DiskError where the disk cannot grow or would
   * shrink, and with IllegalTransition after the end.
   */
  growDisk(name: string, sizeBytes: number): Promise<void>;
  /** How much the overlay of an image's disk may take. Throws UnknownDisk, DiskError or IllegalTransition. */
  limitOverlay(name: string, bytes: number): void;
  /**
   * Puts a disk on the PCI bus of the running machine, and tells the guest; the same disk again changes nothing. Rejects
   * with DiskError, PciSpaceError, and IllegalTransition unless Running or Paused.
   */
  attachDisk(config: DiskConfig): Promise<void>;
  /**
   * Asks the guest to give up a disk, again where it was asked before. The disk is gone when the status has it no more.
   * Throws UnknownDisk, and IllegalTransition unless Running or Paused.
   */
  detachDisk(name: string): void;
  /** The guest sees its link come up or go; throws UnknownInterface, and IllegalTransition after the end. */
  setLink(name: string, link: LinkState): void;
  /**
   * Puts an interface on the PCI bus of the running machine, and tells the guest; the same one again changes nothing. Rejects
   * with NetworkError, PciSpaceError, and IllegalTransition unless Running or Paused.
   */
  attachInterface(config: InterfaceConfig): Promise<void>;
  /**
   * Asks the guest to give up an interface, again where it was asked before. It is gone when the status has it no more.
   * Throws UnknownInterface, and IllegalTransition unless Running or Paused.
   */
  detachInterface(name: string): void;
}

export interface VsockControls {
  /** What they have done, for metrics. */
  readonly use: Readonly<VsockUse>;
  /** Connects a socket, with half-open connections allowed, to a port of the guest; closes it where the guest does not take it. */
  connect(socket: Socket, guestPort: number): void;
}

/** An edge that the machine's life does not have. */
export class IllegalTransition extends Error {
  readonly from: MachineState;
  readonly action: string;
  constructor(from: MachineState, action: string) {
    super(`cannot ${action} a machine that is ${from}`);
    this.name = "IllegalTransition";
    this.from = from;
    this.action = action;
  }
}

/** It is being saved or moved, so that nothing about it may change now. */
export class MachineFrozen extends IllegalTransition {
  constructor(from: MachineState, action: string) {
    super(from, action);
    this.name = "MachineFrozen";
    this.message = `cannot ${action} a machine that is being saved or moved; ask again when that is over`;
  }
}

/** A pause that was overtaken: resumed, reset or ended before all vCPUs were out of the guest. */
export class PauseAborted extends Error {
  constructor() {
    super("the machine was resumed, reset or ended before it was paused; ask again");
    this.name = "PauseAborted";
  }
}
