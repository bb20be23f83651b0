import { readFile } from "node:fs/promises";
import { FakeMachine } from "../../control/testing/fake-machine.ts";
import type { CharacterBackend } from "../../legacy/character-backend.ts";
import type { AssembleMachine, StartableMachine } from "../../machine/machine-dependencies.ts";
import { run } from "../run.ts";

/** What the guest of a scripted launcher does, as its second argument. */
export type GuestScript =
  /** Runs, and powers off when its button is pressed. */
  | "obedient"
  /** Runs, and does not care for the button. */
  | "stubborn"
  | "powers-off"
  | "triple-faults"
  /** The launcher has a defect while the machine runs. */
  | "defect"
  /** A defect after which the machine cannot be stopped either. */
  | "stuck-defect"
  | "cannot-be-assembled";

/** A machine that is all script, with a serial console that answers in capitals, and a virtio console that answers twice. */
class ScriptedMachine extends FakeMachine implements StartableMachine {
  readonly movable = null;
  readonly #script: GuestScript;
  readonly #serial: CharacterBackend;
  readonly #virtio: CharacterBackend;

  constructor(script: GuestScript, serial: CharacterBackend, virtio: CharacterBackend) {
    super();
    this.state = "Starting";
    this.#script = script;
    this.#serial = serial;
    this.#virtio = virtio;
  }

  start(): void {
    answer(this.#serial, (typed) => typed.toUpperCase());
    answer(this.#virtio, (typed) => typed.repeat(2));
    this.moveTo("Running");
    this.#serial.output(Buffer.from("login: \u001b[2J"));
    setImmediate(() => this.#act());
  }

  override async stop(timeoutMs: number): Promise<void> {
    if (this.#script === "stuck-defect") return new Promise(() => {});
    if (this.state === "Ended") return;
    if (timeoutMs === 0) return this.end("StopTimeout", "switched off");
    this.moveTo("Stopping");
    if (this.#script === "obedient") this.end("Stopped", "the guest powered itself off");
    else setTimeout(() => this.end("StopTimeout", "switched off"), timeoutMs);
    await this.ended;
  }

  #act(): void {
    if (this.#script === "powers-off") this.end("GuestPowerOff", "the guest powered itself off");
    if (this.#script === "triple-faults") this.end("GuestTripleFault", "triple fault at 0x1000");
    if (this.#script.endsWith("defect")) throw new Error("index out of range");
  }
}

function answer(backend: CharacterBackend, reply: (typed: string) => string): void {
  backend.connect({
    input: (bytes) => {
      backend.output(Buffer.from(reply(Buffer.from(bytes).toString())));
      return bytes.length;
    },
    onDrain: () => {},
  });
}

const [configPath = "", script = "obedient"] = process.argv.slice(2) as [string?, GuestScript?];

const assemble: AssembleMachine = async (_config, { kvm, console, virtioConsole }) => {
  kvm[Symbol.dispose]();
  // As disks are: by libuv's pool.
  await readFile(configPath);
  if (script === "cannot-be-assembled") throw new Error("no such thing");
  return new ScriptedMachine(script, console, virtioConsole);
};

await run(configPath, assemble);
