/**
 * What a guest tells the machine through its legacy devices. Each may come at any time and any number of times, from
 * within the handling of a vCPU exit: the listener notes it and returns.
 */
export interface MachineEvents {
  /** The guest entered ACPI state S5. */
  onPowerOff(): void;
  /** The guest asked for a reset, by the ACPI reset register or the keyboard controller. */
  onReset(): void;
  /** The guest's kernel panicked ("panicked"), or did and loads its crash kernel ("crash-loaded"). */
  onPanic(kind: PanicKind): void;
}

export type PanicKind = "panicked" | "crash-loaded";
