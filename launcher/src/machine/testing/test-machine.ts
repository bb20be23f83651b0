import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { InterfaceConfig, MachineConfig, PollingConfig } from "../../../api/machine-config.ts";
import { openKvm } from "../../kvm/system.ts";
import type { CharacterBackend, CharacterSink } from "../../legacy/character-backend.ts";
import type { LogFields } from "../../log/logger.ts";
import type { NetworkLink } from "../../net/network-link.ts";
import { assembleMachine } from "../assemble.ts";
import type { Machine } from "../machine.ts";
import { buildTestGuest } from "./test-guest.ts";

export interface TestMachineOptions {
  readonly cpuCount?: number;
  /** Commands that the guest runs at each start. */
  readonly commands?: string;
  readonly disks?: MachineConfig["disks"];
  /** Each attached to a TAP; `links` has them open, for those in another network namespace. */
  readonly interfaces?: readonly InterfaceConfig[];
  readonly polling?: PollingConfig;
  readonly links?: readonly NetworkLink[];
  /** Of interfaces that come while it runs. */
  readonly openLink?: (config: InterfaceConfig) => Promise<NetworkLink>;
  readonly vsock?: MachineConfig["vsock"];
  /** Its memory and state come from elsewhere. */
  readonly isIncoming?: boolean;
  readonly keepLocalDisks?: boolean;
}

/** Guest kernel code may be emulated, and the computer may be busy. */
const DEADLINE_MS = 120_000;
const MIB = 2 ** 20;

/** A whole machine that runs the test guest, with its consoles in the test's hands. */
export class TestMachine implements AsyncDisposable {
  readonly machine: Machine;
  /** The serial port. */
  readonly console: TestConsole;
  readonly virtioConsole: TestConsole;
  readonly log: { readonly message: string; readonly fields: LogFields | undefined }[];
  readonly directory: string;

  private constructor(parts: Pick<TestMachine, "machine" | "console" | "virtioConsole" | "log" | "directory">) {
    this.machine = parts.machine;
    this.console = parts.console;
    this.virtioConsole = parts.virtioConsole;
    this.log = parts.log;
    this.directory = parts.directory;
  }

  /** Assembled, not started. */
  static async make(options: TestMachineOptions = {}): Promise<TestMachine> {
    const console = new TestConsole();
    const virtioConsole = new TestConsole();
    const log: { message: string; fields: LogFields | undefined }[] = [];
    const note = (message: string, fields?: LogFields) => void log.push({ message, fields });
    const directory = mkdtempSync(join(tmpdir(), "machine-"));
    const machine = await assembleMachine(testMachineConfig(options, directory), {
      kvm: openKvm("/dev/kvm"),
      console,
      virtioConsole,
      ...(options.links && { links: options.links }),
      ...(options.openLink && { openLink: options.openLink }),
      log: { debug: note, info: note, warn: note, error: note },
      launcherVersion: "test",
      isIncoming: options.isIncoming ?? false,
      keepLocalDisks: options.keepLocalDisks ?? false,
    });
    return new TestMachine({ machine, console, virtioConsole, log, directory });
  }

  /** Running, and its guest is ready. */
  static async start(options: TestMachineOptions = {}): Promise<TestMachine> {
    const made = await TestMachine.make(options);
    made.machine.start();
    await made.console.said("READY pvh\r\n");
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.stop(0);
    rmSync(this.directory, { recursive: true });
  }
}

export function testMachineConfig(options: TestMachineOptions, directory: string): MachineConfig {
  const guest = buildTestGuest();
  return {
    version: 1,
    identity: { name: "test", namespace: "default", uid: "00000000-0000-0000-0000-000000000000" },
    cpu: { count: options.cpuCount ?? 1, model: "Host" },
    memory: { sizeBytes: 32 * MIB },
    boot: { imageRoot: dirname(guest), kernelPath: `/${basename(guest)}`, commandLine: `-- ${options.commands ?? ""}` },
    disks: options.disks ?? [],
    ...(options.interfaces && { interfaces: options.interfaces }),
    ...(options.vsock && { vsock: options.vsock }),
    ...(options.polling && { polling: options.polling }),
    console: { historyBytes: 65536 },
    control: { socketPath: join(directory, "control.sock") },
    kvm: { devicePath: "/dev/kvm" },
    powerOffTimeoutMs: 1000,
    log: { level: "info" },
  };
}

/** Collects what the guest prints, and types. */
export class TestConsole implements CharacterBackend {
  text = "";
  #sink: CharacterSink | undefined;
  #waiting = "";
  readonly #readers = new Set<() => void>();

  output(bytes: Uint8Array): void {
    this.text += Buffer.from(bytes).toString("latin1");
    for (const reader of this.#readers) reader();
  }

  connect(sink: CharacterSink): void {
    this.#sink = sink;
    sink.onDrain(() => this.#give());
  }

  /** Types a line. */
  type(line: string): void {
    this.#waiting += `${line}\n`;
    this.#give();
  }

  /** Types a command, and resolves with all that was printed since once that has `answer`. */
  async ask(command: string, answer: string): Promise<string> {
    this.text = "";
    this.type(command);
    await this.said(answer);
    return this.text;
  }

  /** Resolves once `text` was printed. */
  async said(text: string): Promise<void> {
    await this.until(() => this.text.includes(text), `the guest to say ${JSON.stringify(text)}`);
  }

  /** Resolves once `condition` holds, which is looked at after each output. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = () => condition() && resolve();
    const fail = () => reject(new Error(`waited for ${what}: ${JSON.stringify(this.text)}`));
    const timer = setTimeout(fail, DEADLINE_MS);
    this.#readers.add(look);
    try {
      look();
      await promise;
    } finally {
      clearTimeout(timer);
      this.#readers.delete(look);
    }
  }

  #give(): void {
    const taken = this.#sink?.input(Buffer.from(this.#waiting, "latin1")) ?? 0;
    this.#waiting = this.#waiting.slice(taken);
  }
}
