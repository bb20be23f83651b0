import type { FileSource } from "../../boot/file-source.ts";
import { ACPI_TABLES, PORTS } from "../../boot/x86/layout.ts";
import { loadKernel } from "../../boot/x86/load-kernel.ts";
import { openKvm } from "../../kvm/system.ts";
import type { Vcpu } from "../../kvm/vcpu.ts";
import { AddressSpace } from "../../memory/address-space.ts";
import type { SysError } from "../../sys/errors.ts";
import { Board } from "../board.ts";
import { ExitCounter } from "../exit-counter.ts";
import { ExitDispatch } from "../exit-dispatch.ts";
import { VcpuRunner } from "../vcpu-runner.ts";
import { openTestGuest, type TestGuestEntry } from "./test-guest.ts";

export interface TestBoardOptions {
  readonly cpuCount?: number;
  readonly entry?: TestGuestEntry;
  /** Commands that the guest runs at once. */
  readonly commands?: string;
  /** Loaded in the test guest's place; stays the caller's. */
  readonly kernel?: FileSource;
}

/** Guest kernel code may be emulated, and the computer may be busy. */
const DEADLINE_MS = 120_000;
const LOOK_MS = 2;
const MIB = 2 ** 20;
const LINE_READY = 0x60;

/** A board with the test guest and nothing else than a port that takes its output: for what needs no device. */
export class TestBoard implements Disposable {
  readonly board: Board;
  readonly runner: VcpuRunner;
  readonly ports = new AddressSpace("ports");
  readonly mmio = new AddressSpace("mmio");
  readonly counter = new ExitCounter();
  /** What the exits meant for the machine: "triple fault", "power off", or why it cannot go on. */
  readonly events: string[] = [];
  output = "";
  readonly #changed = new Set<() => void>();
  readonly #options: TestBoardOptions;

  private constructor(board: Board, options: TestBoardOptions) {
    this.board = board;
    this.#options = options;
    this.ports.add(PORTS.com1.start, PORTS.com1.sizeBytes, {
      read: (_, data) => data.fill(LINE_READY),
      write: (offset, data) => {
        if (offset === 0) this.#print(data);
      },
    });
    const event = (name: string) => () => this.#note(name);
    const dispatch = new ExitDispatch({
      ports: this.ports,
      mmio: this.mmio,
      counter: this.counter,
      events: {
        tripleFault: () => this.#note("triple fault", true),
        powerOff: event("power off"),
        reset: event("reset"),
        unrunnable: (message) => this.#note(message, true),
      },
    });
    this.runner = new VcpuRunner(board.vcpus, {
      exited: (vcpu: Vcpu) => {
        dispatch.dispatch(vcpu.run);
        for (const look of this.#changed) look();
      },
      failed: (_, error: SysError) => this.#note(error.message),
    });
  }

  /** Loaded, and not yet running. */
  static async make(options: TestBoardOptions = {}): Promise<TestBoard> {
    const config = { cpuCount: options.cpuCount ?? 1, memorySizeBytes: 32 * MIB };
    const made = new TestBoard(new Board(openKvm("/dev/kvm"), config, () => {}), options);
    await made.load();
    return made;
  }

  /** Loads the guest, at first and after a reset of the board. */
  async load(): Promise<void> {
    if (this.#options.kernel) return this.#load(this.#options.kernel);
    await using kernel = await openTestGuest(this.#options.entry);
    await this.#load(kernel);
  }

  async #load(kernel: FileSource): Promise<void> {
    const commandLine = `-- ${this.#options.commands ?? ""}`;
    this.board.setEntry(await loadKernel({ kernel, commandLine, memory: this.board.memory, rsdp: ACPI_TABLES }));
  }

  /** Resolves once the output has `text`. */
  async said(text: string): Promise<void> {
    await this.until(() => this.output.includes(text), `the guest to say "${text}"`);
  }

  /** Resolves once `condition` holds, which is looked at after each exit and event, and now and then. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = () => condition() && resolve();
    const fail = () => reject(new Error(`waited for ${what}; output ${JSON.stringify(this.output)}; ${this.events}`));
    const deadline = setTimeout(fail, DEADLINE_MS);
    const glances = setInterval(look, LOOK_MS);
    this.#changed.add(look);
    try {
      look();
      await promise;
    } finally {
      clearTimeout(deadline);
      clearInterval(glances);
      this.#changed.delete(look);
    }
  }

  #print(data: Uint8Array): void {
    this.output += String.fromCharCode(...data);
    for (const look of this.#changed) look();
  }

  #note(event: string, isEnd = false): void {
    this.events.push(event);
    if (isEnd) this.runner[Symbol.dispose]();
    for (const look of this.#changed) look();
  }

  [Symbol.dispose](): void {
    this.runner[Symbol.dispose]();
    this.board[Symbol.dispose]();
  }
}
