import { readFileSync } from "node:fs";

export interface DirectionCounts {
  readonly packets: number;
  readonly bytes: number;
  readonly dropped: number;
  readonly errors: number;
}

/** What the kernel has counted of a TAP in this process's network namespace, as seen from the guest's end. */
export class DeviceCounters {
  readonly #directory: string;

  constructor(device: string) {
    this.#directory = `/sys/class/net/${device}/statistics`;
  }

  read(): { readonly receive: DirectionCounts; readonly transmit: DirectionCounts } {
    // What a TAP transmits its reader receives.
    return { receive: this.#direction("tx"), transmit: this.#direction("rx") };
  }

  #direction(name: "rx" | "tx"): DirectionCounts {
    const count = (field: string) => this.#count(`${name}_${field}`);
    return { packets: count("packets"), bytes: count("bytes"), dropped: count("dropped"), errors: count("errors") };
  }

  /** Zero where sysfs is not that of the namespace. */
  #count(file: string): number {
    try {
      return Number(readFileSync(`${this.#directory}/${file}`, "latin1"));
    } catch {
      return 0;
    }
  }
}
