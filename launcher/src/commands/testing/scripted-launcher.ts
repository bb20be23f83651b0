import { FakeMachine } from "../../control/testing/fake-machine.ts";
import type { AssembleMachine, MachineDependencies, StartableMachine } from "../../machine/machine-dependencies.ts";
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

/** A machine that is all script, with a serial console that answers in capitals. */
class ScriptedMachine extends FakeMachine implements StartableMachine {
  readonly #script: GuestScript;
  readonly #serial: MachineDependencies["console"];

  constructor(script: GuestScript, serial: MachineDependencies["console"]) {
    super();
    this.state = "Starting";
    this.#script = script;
    this.#serial = serial;
  }

  start(): void {
    this.#serial.connect({
      input: (bytes) => {
        this.#serial.output(Buffer.from(Buffer.from(bytes).toString().toUpperCase()));
        return bytes.length;
      },
      onDrain: () => {},
    });
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

const [configPath = "", script = "obedient"] = process.argv.slice(2) as [string?, GuestScript?];

const assemble: AssembleMachine = async (_config, { kvm, console }) => {
  kvm[Symbol.dispose]();
  if (script === "cannot-be-assembled") throw new Error("no such thing");
  return new ScriptedMachine(script, console);
};

await run(configPath, assemble);
