import type { IoEngineName, LauncherStatus, MachineState, TerminationReason } from "../../api/control.ts";
import { LAUNCHER_API_VERSION } from "../../api/control.ts";
import type { InterfaceConfig } from "../../api/machine-config.ts";
import { BootImageError } from "../boot/boot-image-error.ts";
import type { EntryState } from "../boot/x86/entry.ts";
import { StateRefused } from "../codec/state-refused.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { MachineEvents } from "../legacy/machine-events.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import type { HistogramReport } from "../measure/histogram.ts";
import type { NetworkLink } from "../net/network-link.ts";
import type { SysError } from "../sys/errors.ts";
import type { LoopPoller } from "../sys/loop-poller.ts";
import { within } from "../sys/within.ts";
import type { DiskReport } from "../virtio/block/disks.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import type { InterfaceReport } from "../virtio/net/interfaces.ts";
import type { Board } from "./board.ts";
import {
  type DeviceControls,
  IllegalTransition,
  MachineFrozen,
  PauseAborted,
  type VsockControls,
} from "./control-surface.ts";
import { DeviceChanges, type MachineChecks } from "./device-changes.ts";
import type { Devices } from "./devices.ts";
import { ExitCounter } from "./exit-counter.ts";
import { ExitDispatch, type GuestEvents } from "./exit-dispatch.ts";
import { Lifecycle } from "./lifecycle.ts";
import type { StartableMachine } from "./machine-dependencies.ts";
import type { Milestones } from "./milestones.ts";
import type { MovableMachine, RestoreOptions } from "./movable-machine.ts";
import { ResetGuard } from "./reset-guard.ts";
import type { MachineSnapshot } from "./snapshot.ts";
import { Throttle } from "./throttle.ts";
import { VcpuRunner } from "./vcpu-runner.ts";
import { whyDisksStay } from "./why-disks-stay.ts";
import { whyFull } from "./why-full.ts";

export interface MachineParts {
  /** Its uid. */
  readonly uid: string;
  readonly board: Board;
  /** Makes the devices, which tell `events` what the guest asks for. */
  readonly devices: (events: MachineEvents) => Devices;
  readonly virtio: VirtioDevices;
  /** Of an interface that comes while it runs. Rejects with NetworkError. */
  readonly openLink: (config: InterfaceConfig) => Promise<NetworkLink>;
  /** Loads ACPI tables, kernel, initrd and command line into empty memory; at each reset anew. */
  readonly load: () => Promise<EntryState>;
  /** Closes what `load` reads. */
  readonly bootFiles: Disposable;
  readonly milestones: Milestones;
  readonly ioEngine: IoEngineName;
  /** Looks at disks; null where nothing is looked at. */
  readonly poller: LoopPoller | null;
  readonly log: Logger;
  readonly launcherVersion: string;
}

type Termination = Awaited<StartableMachine["ended"]>;

const TIMER_MAX_MS = 2 ** 31 - 1;
/** A guest that is still booting has nobody to see the button: it is pressed again. */
const PRESS_AGAIN_MS = 5_000;
/** A disk that hangs (a network volume that is gone) must not keep the machine from its end. */
const CLOSE_LIMIT_MS = 10_000;

/** A machine from the first instruction to its end. */
export class Machine implements StartableMachine, MovableMachine {
  readonly ended: Promise<Termination>;
  readonly deviceControls: DeviceControls;
  readonly #parts: MachineParts;
  readonly #devices: Devices;
  readonly #runner: VcpuRunner;
  readonly #lifecycle = new Lifecycle();
  readonly #checks: MachineChecks = {
    notEnded: (action) => this.#refuseUnless((state) => state !== "Ended", action),
    notFrozen: (action) => {
      if (this.#isFrozen) throw new MachineFrozen(this.#lifecycle.state, action);
    },
    alive: (action) => this.#refuseUnless((state) => state === "Running" || state === "Paused", action),
  };
  readonly #counter = new ExitCounter();
  readonly #resetGuard = new ResetGuard();
  readonly #throttle: Throttle;
  readonly #settleEnded: (termination: Termination) => void;
  #startedAt: string | null = null;
  #reboots = 0;
  #guestPanicked = false;
  /** When the guest last came to run; for the reset guard. */
  #runningSinceMs = 0;
  /** Invariant: not null exactly while a reset is under way. */
  #resetting: Promise<void> | null = null;
  /** A pause was asked for and not taken back since. */
  #pauseAsked = false;
  #stopDeadlineMs = Number.POSITIVE_INFINITY;
  #stopTimer: NodeJS.Timeout | undefined;
  #pressTimer: NodeJS.Timeout | undefined;
  /** Its devices are held, or are about to be: it neither runs nor changes until `thaw`. */
  #isFrozen = false;
  /** It goes on where another one was saved. */
  #isRestored = false;
  /** Asked to stop while it was frozen. */
  #stopsAfterThaw = false;
  /** Invariant: null until the state is Ended. */
  #termination: Termination | null = null;

  constructor(parts: MachineParts) {
    const { promise, resolve } = Promise.withResolvers<Termination>();
    this.ended = promise;
    this.#settleEnded = resolve;
    this.#parts = parts;
    const events = this.#guestEvents();
    this.#devices = parts.devices({
      onPowerOff: events.powerOff,
      onReset: events.reset,
      onPanic: (kind) => this.#onPanic(kind),
    });
    this.deviceControls = new DeviceChanges({
      virtio: parts.virtio,
      devices: this.#devices,
      openLink: parts.openLink,
      checks: this.#checks,
      resetDone: async () => await this.#resetting?.catch(() => {}),
      log: parts.log,
    });
    const { ports, mmio } = this.#devices;
    const dispatch = new ExitDispatch({ ports, mmio, events, counter: this.#counter });
    this.#runner = new VcpuRunner(parts.board.vcpus, {
      exited: (vcpu) => this.#onExit(dispatch, vcpu),
      failed: (_vcpu, error: SysError) => this.#end("KvmInternalError", `the guest cannot go on: ${error.message}`),
    });
    // Who looks at disks does not come to the exits otherwise.
    parts.poller?.accompany({ isReady: () => this.#runner.hasExits, run: () => this.#runner.handleExits() });
    this.#throttle = new Throttle({
      isRunning: () => this.#isRunning,
      halt: () => this.#runner.halt(),
      run: () => this.#runner.run(),
    });
  }

  start(): void {
    this.#parts.virtio.disks.onRoomChange((disk, isFull) => this.#onRoomChange(disk, isFull));
    if (!this.#lifecycle.take("start")) return;
    this.#startedAt ??= new Date().toISOString();
    if (this.#isRestored) this.#goOn();
    else this.#run();
    this.#parts.milestones.mark("running");
  }

  #goOn(): void {
    this.#isFrozen = false;
    this.#parts.board.notePause();
    this.#devices.release();
    if (this.#pauseAsked) this.#lifecycle.take("pause");
    else this.#run();
  }

  get movable(): MovableMachine {
    return this;
  }

  get memory(): Board["memoryForMoving"] {
    return this.#parts.board.memoryForMoving;
  }

  get disks(): MovableMachine["disks"] {
    return this.#parts.virtio.disks.all;
  }

  get cannotMove(): readonly string[] {
    // Its disks are closed.
    return this.#lifecycle.state === "Ended" ? [] : whyDisksStay(this.#parts.virtio.disks.all);
  }

  async freeze(limitMs: number): Promise<void> {
    this.#checks.alive("freeze");
    if (this.#isFrozen) throw new MachineFrozen(this.#lifecycle.state, "freeze");
    this.#isFrozen = true;
    try {
      await this.#haltWhole();
      this.#lifecycle.take("pause");
      this.#devices.flush();
      await within(limitMs, this.#devices.hold(), () => new Error(atRest(limitMs)));
      this.#checks.alive("freeze");
    } catch (error) {
      this.thaw();
      throw error;
    }
  }

  /** A guest may have asked for a reset with its last exit. */
  async #haltWhole(): Promise<void> {
    do {
      await this.#resetting?.catch(() => {});
      await this.#runner.halt();
    } while (this.#resetting !== null);
  }

  thaw(): void {
    if (!this.#isFrozen) return;
    this.#isFrozen = false;
    if (this.#termination !== null) return;
    this.#devices.release();
    if (this.#stopsAfterThaw) this.#beginStop(true);
    else this.#runUnlessHeld();
  }

  async flushDisks(): Promise<void> {
    await Promise.all(this.#parts.virtio.disks.all.map((disk) => disk.flush()));
  }

  releaseDisks(): void {
    for (const { storage } of this.#parts.virtio.disks.all) storage.release();
  }

  claimDisks(): void {
    for (const { storage } of this.#parts.virtio.disks.all) storage.claim();
  }

  throttle(share: number): void {
    this.#throttle.set(share);
  }

  processors(): ReturnType<Board["processors"]> {
    return this.#parts.board.processors();
  }

  checkProcessors(cpuids: ReturnType<Board["processors"]>): void {
    this.#parts.board.checkProcessors(cpuids.map((cpuid) => ({ cpuid })));
  }

  save(): MachineSnapshot {
    const { board, launcherVersion, uid } = this.#parts;
    const facts = {
      uid,
      launcherVersion,
      memoryBytes: board.memory.sizeBytes,
      cpuCount: board.vcpus.length,
      startedAt: this.#startedAt,
      reboots: this.#reboots,
      guestPanicked: this.#guestPanicked,
      isPaused: this.#pauseAsked,
    };
    return { facts, devices: this.#devices.save(), board: board.save() };
  }

  restore({ facts, board, devices }: MachineSnapshot, { elapsedNs, version }: RestoreOptions): void {
    const { uid } = this.#parts;
    if (this.#lifecycle.state !== "Starting") throw new IllegalTransition(this.#lifecycle.state, "restore");
    if (facts.uid !== uid)
      throw new StateRefused("machine", `the state is that of machine ${facts.uid}, not of ${uid}`);
    if (facts.memoryBytes !== this.#parts.board.memory.sizeBytes)
      throw new StateRefused("memory", `${facts.memoryBytes} bytes were saved; set memory.sizeBytes to that`);
    this.#isFrozen = true;
    this.#isRestored = true;
    this.#parts.board.restore(board, elapsedNs);
    this.#devices.restore(devices, version);
    this.#startedAt = facts.startedAt;
    this.#reboots = facts.reboots;
    this.#guestPanicked = facts.guestPanicked;
    this.#pauseAsked = facts.isPaused;
  }

  async leave(reason: "Suspended" | "Migrated", message: string): Promise<void> {
    this.#end(reason, message);
    await this.ended;
  }

  status(): LauncherStatus {
    const { board, launcherVersion, milestones } = this.#parts;
    return {
      apiVersion: LAUNCHER_API_VERSION,
      launcherVersion,
      state: this.#lifecycle.state,
      ...this.#why(),
      startedAt: this.#startedAt,
      reboots: this.#reboots,
      guestPanicked: this.#guestPanicked,
      cpus: board.vcpus.length,
      memoryBytes: board.memory.sizeBytes,
      milestones: milestones.snapshot(),
      exits: this.#counter.snapshot(),
      disks: this.#parts.virtio.disks.status(),
      interfaces: this.#parts.virtio.interfaces.status(),
      ioEngine: this.#parts.ioEngine,
      cannotMove: this.cannotMove,
      cpuFeatures: board.features,
      ...(this.#lifecycle.state === "Paused" && {
        pause: { asked: this.#pauseAsked, storageFull: this.#parts.virtio.disks.full },
      }),
    };
  }

  #why(): { readonly reason: string; readonly message: string } {
    switch (this.#lifecycle.state) {
      case "Starting":
        return { reason: "Assembled", message: "the machine is ready to start" };
      case "Running":
        if (this.#resetting) return { reason: "Resetting", message: "the machine is being reset" };
        return { reason: "Started", message: "the guest runs" };
      case "Paused":
        if (this.#isFrozen) return { reason: "Frozen", message: "the machine is being saved or moved" };
        if (this.#parts.virtio.disks.full.length > 0)
          return { reason: "StorageFull", message: whyFull(this.#parts.virtio.disks, this.#pauseAsked) };
        return { reason: "PauseRequested", message: "the guest is paused until it is resumed" };
      case "Stopping":
        return { reason: "StopRequested", message: "the power button was pressed, and the guest has time to react" };
      case "Ended":
        return this.#termination ?? { reason: "LauncherError", message: "" };
    }
  }

  get roundTrips(): HistogramReport | null {
    return this.#runner.roundTrips;
  }

  get vsock(): VsockControls | null {
    return this.#parts.virtio.vsock;
  }

  onState(listener: (state: MachineState) => void): Disposable {
    return this.#lifecycle.onState(listener);
  }

  async pause(): Promise<void> {
    const isPaused = this.#lifecycle.target("pause") === this.#lifecycle.state;
    this.#pauseAsked = true;
    if (!isPaused) await this.#halt();
  }

  resume(): void {
    this.#lifecycle.target("resume");
    const wasAsked = this.#pauseAsked;
    this.#pauseAsked = false;
    this.#parts.virtio.disks.retry();
    if (wasAsked || this.#lifecycle.state === "Paused") this.#runUnlessHeld();
  }

  /** What keeps the guest from running: somebody, or storage that is full. */
  get #isHeld(): boolean {
    return this.#isFrozen || this.#pauseAsked || this.#parts.virtio.disks.full.length > 0;
  }

  async #halt(): Promise<void> {
    await this.#resetting;
    this.#lifecycle.target("pause");
    if (!this.#isHeld) throw new PauseAborted();
    await this.#runner.halt();
    this.#devices.flush();
    this.#lifecycle.take("pause");
  }

  #runUnlessHeld(): void {
    if (this.#isHeld) return;
    const changed = this.#lifecycle.take("resume");
    // A reset lets the guest run when it is done.
    if (this.#resetting !== null) return;
    if (changed) this.#parts.board.notePause();
    this.#run();
  }

  #onRoomChange(disk: string, isFull: boolean): void {
    const { log } = this.#parts;
    const { state } = this.#lifecycle;
    if (!isFull) {
      log.info("disk has room again", { reason: "StorageHasRoom", disk });
      if (state === "Running" || state === "Paused") this.#runUnlessHeld();
      return;
    }
    log.warn("disk waits for room in its storage", { reason: "StorageFull", disk });
    // A guest that is to power off does so without the disk, or is switched off in time.
    if (state !== "Running") return;
    this.#halt().catch((error: unknown) => {
      const isOvertaken = error instanceof PauseAborted || error instanceof IllegalTransition;
      if (!isOvertaken && this.#termination === null) this.#defect("pausing for storage that is full", error);
    });
  }

  pressPowerButton(): void {
    this.#checks.notFrozen("press the power button of");
    if (this.#lifecycle.state !== "Ended") this.#devices.pressPowerButton();
  }

  async reset(): Promise<void> {
    this.#lifecycle.target("reset");
    this.#checks.notFrozen("reset");
    await this.#reset();
  }

  /** The guest runs, unless a throttle holds it back for a moment. */
  get #isRunning(): boolean {
    return this.#lifecycle.state === "Running" && !this.#isHeld && this.#resetting === null;
  }

  #refuseUnless(isFit: (state: MachineState) => boolean, action: string): void {
    const { state } = this.#lifecycle;
    if (!isFit(state)) throw new IllegalTransition(state, action);
  }

  diskUse(): readonly DiskReport[] {
    return this.#parts.virtio.disks.use();
  }

  get pollingSeconds(): number {
    return (this.#parts.poller?.lookedMs ?? 0) / 1000;
  }

  networkUse(): readonly InterfaceReport[] {
    return this.#parts.virtio.interfaces.use();
  }

  async stop(timeoutMs: number): Promise<void> {
    if (this.#lifecycle.state === "Starting") this.#end("Stopped", "asked to stop before the guest ran");
    if (this.#isFrozen) this.#stopsAfterThaw = true;
    else this.#beginStop(this.#lifecycle.state === "Paused");
    const deadlineMs = performance.now() + timeoutMs;
    if (this.#lifecycle.state !== "Ended" && deadlineMs < this.#stopDeadlineMs) {
      this.#stopDeadlineMs = deadlineMs;
      clearTimeout(this.#stopTimer);
      const onTimeout = () => this.#end("StopTimeout", "the guest did not power off in time and was switched off");
      this.#stopTimer = setTimeout(onTimeout, Math.min(timeoutMs, TIMER_MAX_MS));
    }
    await this.ended;
  }

  #beginStop(wasPaused: boolean): void {
    if (wasPaused) this.#lifecycle.take("resume");
    if (!this.#lifecycle.take("stop")) return;
    this.#pauseAsked = false;
    this.#letReact(wasPaused);
    this.#devices.pressPowerButton();
    this.#pressTimer = setInterval(() => this.#devices.pressPowerButton(), PRESS_AGAIN_MS);
  }

  /** Whatever holds the guest: while it is paused, or is being, it sees no power button. */
  #letReact(wasPaused: boolean): void {
    this.#parts.virtio.disks.retry();
    if (this.#resetting !== null) return;
    if (wasPaused) this.#parts.board.notePause();
    this.#run();
  }

  #guestEvents(): GuestEvents {
    return {
      tripleFault: () =>
        this.#end(
          "GuestTripleFault",
          "the guest's processor shut down (triple fault): its kernel crashed, or does not fit this machine. See its console",
        ),
      powerOff: () => {
        if (this.#lifecycle.state === "Stopping") this.#end("Stopped", "the guest powered off, as asked");
        else this.#end("GuestPowerOff", "the guest powered itself off");
      },
      reset: () => this.#onGuestReset(),
      unrunnable: (message) => this.#end("KvmInternalError", message),
    };
  }

  #onExit(dispatch: ExitDispatch, vcpu: Vcpu): void {
    try {
      this.#devices.collectWrites();
      dispatch.dispatch(vcpu.run);
    } catch (error) {
      this.#defect("handling an exit of the guest", error);
    }
  }

  #onPanic(kind: string): void {
    if (!this.#guestPanicked) this.#parts.log.warn("guest panicked", { reason: "GuestPanicked", kind });
    this.#guestPanicked = true;
  }

  #onGuestReset(): void {
    if (this.#resetting !== null || this.#termination !== null) return;
    if (this.#resetGuard.reset(performance.now() - this.#runningSinceMs)) {
      this.#end("ResetStorm", "the guest resets itself again and again before it gets anywhere. See its console");
      return;
    }
    this.#reset().catch(() => {});
  }

  /** One reset at a time: who asks while one is under way gets that one. */
  #reset(): Promise<void> {
    this.#resetting ??= this.#resetOnce()
      .catch((error: unknown) => {
        if (error instanceof BootImageError) this.#end("BootImageInvalid", error.message);
        else if (this.#termination === null) this.#defect("resetting the machine", error);
        throw error;
      })
      .finally(() => {
        this.#resetting = null;
        this.#runUnlessPaused();
      });
    return this.#resetting;
  }

  async #resetOnce(): Promise<void> {
    const { board, load, log } = this.#parts;
    const steps = [
      () => this.#runner.halt(),
      () => this.#devices.reset(),
      () => board.reset(),
      async () => board.setEntry(await load()),
    ];
    for (const step of steps) {
      if (this.#termination !== null) throw new PauseAborted();
      await step();
    }
    this.#reboots++;
    this.#guestPanicked = false;
    log.info("machine is reset", { reason: "Reset", reboots: this.#reboots });
  }

  #runUnlessPaused(): void {
    const { state } = this.#lifecycle;
    if (state === "Running" || state === "Stopping") this.#run();
  }

  #run(): void {
    this.#runningSinceMs = performance.now();
    this.#runner.run();
  }

  #defect(doing: string, error: unknown): void {
    const message = errorText(error);
    const stack = error instanceof Error ? error.stack : undefined;
    this.#parts.log.error("launcher failed", { reason: "LauncherError", doing, error: message, stack });
    this.#end("LauncherError", `a defect of the launcher, ${doing}: ${message}; its log has the stack`);
  }

  /** The first reason counts. All vCPU threads are gone when this returns; the rest follows. */
  #end(reason: TerminationReason, message: string): void {
    if (this.#termination !== null) return;
    this.#termination = { reason, message };
    clearTimeout(this.#stopTimer);
    clearInterval(this.#pressTimer);
    this.#throttle.set(0);
    this.#runner[Symbol.dispose]();
    this.#lifecycle.take("end");
    const termination = this.#termination;
    void this.#close().then(() => this.#settleEnded(termination));
  }

  async #close(): Promise<void> {
    const { bootFiles, board, log } = this.#parts;
    try {
      await within(CLOSE_LIMIT_MS, this.#closeDevices(), () => new DevicesHang());
      bootFiles[Symbol.dispose]();
      board[Symbol.dispose]();
    } catch (error) {
      // Guest memory stays: the kernel may yet write to it.
      if (error instanceof DevicesHang) log.warn("devices do not come to rest", { reason: "CloseTimeout" });
      else log.error("devices cannot be closed", { reason: "CloseFailed", error: errorText(error) });
    }
  }

  async #closeDevices(): Promise<void> {
    await this.#resetting?.catch(() => {});
    await this.#devices.close();
  }
}

class DevicesHang extends Error {}

const atRest = (limitMs: number) =>
  `the disks did not come to rest within ${limitMs} ms; see whether their storage answers`;
