type Table<Phase extends string, Event extends string> = Readonly<
  Record<Phase, Partial<Readonly<Record<Event, Phase>>>>
>;

/** Holds a phase that only listed events change. */
export class Phases<Phase extends string, Event extends string> {
  readonly #table: Table<Phase, Event>;
  #phase: Phase;

  constructor(table: Table<Phase, Event>, first: Phase) {
    this.#table = table;
    this.#phase = first;
  }

  get current(): Phase {
    return this.#phase;
  }

  may(event: Event): boolean {
    return this.#table[this.#phase][event] !== undefined;
  }

  /** Throws where the event cannot happen in this phase: a defect, or a peer that does not keep to the protocol. */
  take(event: Event): void {
    const next = this.#table[this.#phase][event];
    if (next === undefined) throw new Error(`"${event}" cannot happen while a migration is ${this.#phase}`);
    this.#phase = next;
  }
}
