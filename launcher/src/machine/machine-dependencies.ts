import type { InterfaceConfig, MachineConfig } from "../../api/machine-config.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import type { Logger } from "../log/logger.ts";
import type { NetworkLink } from "../net/network-link.ts";
import type { Resolver } from "../net/resolver.ts";
import type { AttachmentTaker } from "../storage/attached-disk.ts";
import type { OwnedFd } from "../sys/fd.ts";
import type { MachineControls } from "./control-surface.ts";
import type { MovableMachine } from "./movable-machine.ts";

/** What `assembleMachine` needs besides the configuration. */
export interface MachineDependencies {
  /** /dev/kvm, opened here or received from the node agent. The machine closes it, also when assembling fails. */
  readonly kvm: OwnedFd;
  /** One for each interface of the configuration, in order. The machine closes them, also when assembling fails. */
  readonly links?: readonly NetworkLink[];
  /**
   * The link of an interface that comes to the running machine; none can come without. Rejects with NetworkError, or with
   * NetworkNotReady where the same may work later.
   */
  readonly openLink?: (config: InterfaceConfig) => Promise<NetworkLink>;
  /** What guests are told of DNS. */
  readonly resolver?: Resolver;
  /** Where the serial port's output goes and its input comes from. */
  readonly console: CharacterBackend;
  /** The same for the virtio console. */
  readonly virtioConsole: CharacterBackend;
  readonly log: Logger;
  readonly launcherVersion: string;
  /** Memory and state come from elsewhere (`restore`) before it is started: no kernel is loaded. */
  readonly isIncoming?: boolean;
  /** Another launcher has the machine's disks until `claimDisks`. */
  readonly claimDisksLater?: boolean;
  /** The files of disks that are made anew at each start are taken as they are: the machine was suspended here. */
  readonly keepLocalDisks?: boolean;
  /**
   * Opens the block device of a raw disk where this process may not do so itself (asks the node agent).
   * The storage layer opens the path when this is absent.
   */
  readonly openBlockDevice?: (path: string, access: { readOnly: boolean; direct: boolean }) => Promise<OwnedFd>;
  /** Takes what a holder offers by way of the node agent; there are no disks of kind `attachment` without. */
  readonly takeAttachment?: AttachmentTaker;
}

/**
 * A machine that is ready to run: memory, devices and kernel are in place, no vCPU has run yet.
 * Its state is Starting until `start`.
 */
export interface StartableMachine extends MachineControls {
  /** What suspending and migrating ask; null where it can be neither. */
  readonly movable: MovableMachine | null;
  /** Lets the vCPUs run; the state is Running then. Once only. */
  start(): void;
}

/**
 * Builds a machine; `assembleMachine` in assemble.ts is one.
 * Throws KvmUnavailable, BootImageError or what the disks throw; nothing is left open then.
 */
export type AssembleMachine = (config: MachineConfig, dependencies: MachineDependencies) => Promise<StartableMachine>;
