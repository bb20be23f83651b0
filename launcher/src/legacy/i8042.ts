import type { RangeHandler } from "../memory/address-space.ts";
import { byteWise } from "./byte-registers.ts";
import type { MachineEvents } from "./machine-events.ts";
import type { KeyboardState } from "./state.ts";

const STATUS = { outputFull: 0x01, selfTestPassed: 0x04 } as const;
const COMMAND = {
  readConfiguration: 0x20,
  writeConfiguration: 0x60,
  testAuxiliaryPort: 0xa9,
  selfTest: 0xaa,
  testKeyboardPort: 0xab,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  loopKeyboard: 0xd2,
  loopAuxiliary: 0xd3,
  /** 0xf0 to 0xff pulse the lines whose bits are clear; bit 0 is the processor's reset. */
  pulse: 0xf0,
} as const;
const SELF_TEST_PASSED = 0x55;
/** "Clock line stuck low": nothing is plugged in. */
const PORT_DEAD = 0x01;
/** Both ports disabled. */
const DEFAULT_CONFIGURATION = 0x30;
const NOT_RESET = 0x01;
const A20 = 0x02;
/** In a saved state; bytes are below. */
const NONE = 256;

/**
 * A keyboard controller with nothing plugged in: it answers each command at once, so that a guest that probes it in
 * spite of the FADT does not wait for timeouts, and it resets the machine.
 */
export class KeyboardController {
  readonly dataPort: RangeHandler = byteWise({
    readRegister: () => this.#readData(),
    writeRegister: (_offset, value) => this.#writeData(value),
  });
  readonly commandPort: RangeHandler = byteWise({
    readRegister: () => STATUS.selfTestPassed | (this.#answer === null ? 0 : STATUS.outputFull),
    writeRegister: (_offset, value) => this.#command(value),
  });
  readonly #events: Pick<MachineEvents, "onReset">;
  #configuration = DEFAULT_CONFIGURATION;
  /** What the data port gives next. */
  #answer: number | null = null;
  /** The command that the next byte at the data port belongs to. */
  #awaiting: number | null = null;

  constructor(events: Pick<MachineEvents, "onReset">) {
    this.#events = events;
  }

  reset(): void {
    this.#configuration = DEFAULT_CONFIGURATION;
    this.#answer = null;
    this.#awaiting = null;
  }

  save(): KeyboardState {
    return {
      configuration: this.#configuration,
      answer: this.#answer ?? NONE,
      awaiting: this.#awaiting ?? NONE,
    };
  }

  restore({ configuration, answer, awaiting }: KeyboardState): void {
    this.#configuration = configuration;
    this.#answer = answer < NONE ? answer : null;
    this.#awaiting = awaiting < NONE ? awaiting : null;
  }

  #command(command: number): void {
    this.#awaiting = null;
    switch (command) {
      case COMMAND.readConfiguration:
        this.#answer = this.#configuration;
        break;
      case COMMAND.selfTest:
        this.#answer = SELF_TEST_PASSED;
        break;
      case COMMAND.testAuxiliaryPort:
      case COMMAND.testKeyboardPort:
        this.#answer = PORT_DEAD;
        break;
      case COMMAND.readOutputPort:
        this.#answer = NOT_RESET | A20;
        break;
      case COMMAND.writeConfiguration:
      case COMMAND.writeOutputPort:
      case COMMAND.loopKeyboard:
      case COMMAND.loopAuxiliary:
        this.#awaiting = command;
        break;
      default:
        if (command >= COMMAND.pulse && (command & NOT_RESET) === 0) this.#events.onReset();
    }
  }

  #writeData(value: number): void {
    switch (this.#awaiting) {
      case COMMAND.writeConfiguration:
        this.#configuration = value;
        break;
      case COMMAND.writeOutputPort:
        if ((value & NOT_RESET) === 0) this.#events.onReset();
        break;
      case COMMAND.loopKeyboard:
        this.#answer = value;
        break;
      case COMMAND.loopAuxiliary:
        // Not what was sent: there is no auxiliary port.
        this.#answer = value ^ 0xff;
        break;
    }
    this.#awaiting = null;
  }

  #readData(): number {
    const answer = this.#answer ?? 0;
    this.#answer = null;
    return answer;
  }
}
