import type { Disk } from "../virtio/block/disk.ts";
import type { Board } from "./board.ts";
import type { BoardState } from "./board-state.ts";
import type { MachineSnapshot } from "./snapshot.ts";

export interface RestoreOptions {
  /** Time since it was saved, by which the guest's clocks go on. */
  readonly elapsedNs: bigint;
  /** Of the format that the state was in. */
  readonly version: number;
}

/** A disk, for whoever copies it. */
export type MovableDisk = Pick<Disk, "name" | "config" | "tracked">;

/** What suspending and migrating ask of a machine. */
export interface MovableMachine {
  /** Guest RAM, for whoever copies it. */
  readonly memory: Board["memoryForMoving"];
  readonly disks: readonly MovableDisk[];
  /** Why the machine cannot go on in another place; empty where it can. */
  readonly cannotMove: readonly string[];
  /**
   * Stops the guest and brings the devices to rest, so that neither state nor memory changes until `thaw`. Rejects, thawed,
   * where they do not come to rest within `limitMs`, with IllegalTransition unless Running or Paused, or with MachineFrozen.
   */
  freeze(limitMs: number): Promise<void>;
  /** The guest goes on, unless something else holds it. */
  thaw(): void;
  /** What the disks have taken so far is durable when it resolves. Rejects where one cannot say that. */
  flushDisks(): Promise<void>;
  /** Another launcher may have the disks. While it is frozen. */
  releaseDisks(): void;
  /** Takes the disks that were released, or opened for later. Throws DiskError where somebody has one. */
  claimDisks(): void;
  /** Holds the guest back for a share of the time, 0 to 0.99, so that it dirties less memory. */
  throttle(share: number): void;
  /** What CPUID answers on each processor. */
  processors(): BoardState["vcpus"][number]["cpuid"][];
  /** Throws StateRefused where a guest that uses those cannot go on here, with what is missing. */
  checkProcessors(cpuids: readonly BoardState["vcpus"][number]["cpuid"][]): void;
  /** While it is frozen. */
  save(): MachineSnapshot;
  /** Makes a machine that was not started the saved one, frozen; `start` lets it go on. Throws StateRefused. */
  restore(snapshot: MachineSnapshot, options: RestoreOptions): void;
  /** Ends this process's part of the machine, which lives on elsewhere. */
  leave(reason: "Suspended" | "Migrated", message: string): Promise<void>;
}
