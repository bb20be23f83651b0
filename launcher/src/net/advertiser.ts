/** RFC 4861, section 6.2.1: some 30 times in the lifetime of what is said. */
const INTERVAL_MS = 300_000;
/** Section 6.2.4: the first three, in case the guest did not listen yet. */
const INITIAL_PAUSES_MS = [16_000, 16_000];

/** Sends router advertisements unasked, so that nothing that they said ends. */
export class Advertiser implements Disposable {
  readonly #send: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(send: () => void) {
    this.#send = send;
    this.#wait(INITIAL_PAUSES_MS.length);
  }

  /** The guest listens from now on, or is new here: at once, soon again, and from then on now and then. */
  start(): void {
    clearTimeout(this.#timer);
    this.#tell(0);
  }

  #tell(round: number): void {
    this.#send();
    this.#wait(round);
  }

  #wait(round: number): void {
    this.#timer = setTimeout(() => this.#tell(round + 1), INITIAL_PAUSES_MS[round] ?? INTERVAL_MS);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
