/** After the first, as QEMU has it: a frame may be lost while a network is still on its way to know of the guest. */
const PAUSES_MS = [50, 150, 250, 350];

/** Sends frames several times, some time apart. */
export class Announcer implements Disposable {
  readonly #frames: readonly Uint8Array[];
  readonly #send: (frame: Uint8Array) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(frames: readonly Uint8Array[], send: (frame: Uint8Array) => void) {
    this.#frames = frames;
    this.#send = send;
  }

  /** The first time at once. Again: from the beginning. */
  start(): void {
    clearTimeout(this.#timer);
    this.#round(0);
  }

  #round(round: number): void {
    for (const frame of this.#frames) this.#send(frame);
    const pauseMs = PAUSES_MS[round];
    if (pauseMs === undefined) return;
    this.#timer = setTimeout(() => this.#round(round + 1), pauseMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
