import type { MachineState } from "../../api/control.ts";
import { IllegalTransition } from "./control-surface.ts";

/** What moves a machine from one state to the next. */
export type LifecycleAction = "start" | "pause" | "resume" | "reset" | "stop" | "end";

/**
 * The life of a machine: what each action leads to. An action that leads to the state itself changes nothing; one that
 * is not listed is illegal.
 */
export const transitions: Readonly<Record<MachineState, Partial<Readonly<Record<LifecycleAction, MachineState>>>>> = {
  Starting: { start: "Running", end: "Ended" },
  Running: { start: "Running", pause: "Paused", resume: "Running", reset: "Running", stop: "Stopping", end: "Ended" },
  Paused: { pause: "Paused", resume: "Running", reset: "Paused", end: "Ended" },
  Stopping: { resume: "Stopping", reset: "Stopping", stop: "Stopping", end: "Ended" },
  Ended: { end: "Ended", stop: "Ended" },
};

/** Holds the state, lets only listed actions change it, and tells listeners after each change. */
export class Lifecycle {
  #state: MachineState = "Starting";
  readonly #listeners = new Set<(state: MachineState) => void>();

  get state(): MachineState {
    return this.#state;
  }

  /** The state that `action` would lead to. Throws IllegalTransition. */
  target(action: LifecycleAction): MachineState {
    const target = transitions[this.#state][action];
    if (target === undefined) throw new IllegalTransition(this.#state, action);
    return target;
  }

  /** Takes the action; false when it changes nothing. Throws IllegalTransition. */
  take(action: LifecycleAction): boolean {
    const target = this.target(action);
    if (target === this.#state) return false;
    this.#state = target;
    for (const listener of [...this.#listeners]) listener(target);
    return true;
  }

  onState(listener: (state: MachineState) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}
