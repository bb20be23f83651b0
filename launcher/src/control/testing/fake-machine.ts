import type { LauncherStatus, MachineState, TerminationReason } from "../../../api/control.ts";
import {
  type DeviceControls,
  IllegalTransition,
  type MachineControls,
  type VsockControls,
} from "../../machine/control-surface.ts";
import { Histogram, type HistogramReport } from "../../measure/histogram.ts";
import type { DiskReport } from "../../virtio/block/disks.ts";
import type { InterfaceReport } from "../../virtio/net/interfaces.ts";

type End = { readonly reason: TerminationReason; readonly message: string };

/** A machine without a guest: states change when it is told, and each call is noted. */
export class FakeMachine implements MachineControls {
  guestPanicked = false;
  reboots = 0;
  state: MachineState = "Running";
  message = "the guest runs";
  readonly calls: string[] = [];
  failure: Error | undefined;
  disks: readonly DiskReport[] = [];
  interfaces: readonly InterfaceReport[] = [];
  vsock: VsockControls | null = null;
  readonly #listeners = new Set<(state: MachineState) => void>();
  readonly deviceControls: DeviceControls = {
    growDisk: async (name, sizeBytes) => this.#note(`growDisk ${name} ${sizeBytes}`),
    limitOverlay: (name, bytes) => this.#note(`limitOverlay ${name} ${bytes}`),
    attachDisk: async ({ name, source }) => this.#note(`attachDisk ${name} ${source.kind}`),
    detachDisk: (name) => this.#note(`detachDisk ${name}`),
    attachInterface: async ({ name, attachment }) => this.#note(`attachInterface ${name} ${attachment.kind}`),
    detachInterface: (name) => this.#note(`detachInterface ${name}`),
    setLink: (name, link) => this.#note(`setLink ${name} ${link}`),
  };
  readonly #end = Promise.withResolvers<End>();
  readonly ended = this.#end.promise;

  get listeners(): number {
    return this.#listeners.size;
  }

  moveTo(state: MachineState): void {
    this.state = state;
    for (const listener of [...this.#listeners]) listener(state);
  }

  end(reason: TerminationReason, message: string): void {
    this.message = message;
    this.moveTo("Ended");
    this.#end.resolve({ reason, message });
  }

  status(): LauncherStatus {
    return {
      apiVersion: 1,
      launcherVersion: "0.1.0",
      state: this.state,
      reason: "Fake",
      message: this.message,
      startedAt: this.state === "Starting" ? null : "2026-01-02T03:04:05.678Z",
      reboots: this.reboots,
      guestPanicked: this.guestPanicked,
      ioEngine: "threads",
      cpus: 2,
      memoryBytes: 1024,
      milestones: { kvm: 12, running: 50 },
      exits: { 'io:"0x3f8"': 7 },
    };
  }

  async pause(): Promise<void> {
    this.#note("pause");
    if (this.state !== "Running" && this.state !== "Paused") throw new IllegalTransition(this.state, "pause");
    this.moveTo("Paused");
  }
  resume(): void {
    this.#note("resume");
    this.moveTo("Running");
  }
  pressPowerButton(): void {
    this.#note("powerButton");
  }
  async reset(): Promise<void> {
    this.#note("reset");
  }
  networkUse(): readonly InterfaceReport[] {
    return this.interfaces;
  }
  pollingSeconds = 0.25;
  roundTrips: HistogramReport | null = new Histogram([0.001]);

  diskUse(): readonly DiskReport[] {
    return this.disks;
  }
  async stop(timeoutMs: number): Promise<void> {
    this.#note(`stop ${timeoutMs}`);
    this.moveTo("Stopping");
  }
  onState(listener: (state: MachineState) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  #note(call: string): void {
    this.calls.push(call);
    if (this.failure !== undefined) throw this.failure;
  }
}
