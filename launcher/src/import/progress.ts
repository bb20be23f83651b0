import { IMPORT_VERSION, type ImportProgress, type ImportStage, type ImportTrouble } from "../../api/import.ts";

/** The rate is that of the last few seconds. */
const RATE_WINDOW_MS = 5_000;
const SAMPLES_PER_WINDOW = 10;

/** How far an import is. */
export class ProgressMeter {
  stage: ImportStage = "Starting";
  totalBytes: number | null = null;
  format: string | null = null;
  diskBytes: number | null = null;
  resumed = 0;
  /** What keeps the transfer from going on now. */
  trouble: ImportTrouble | null = null;
  #doneBytes = 0;
  readonly #now: () => number;
  readonly #samples: { readonly atMs: number; readonly doneBytes: number }[] = [];

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#samples.push({ atMs: now(), doneBytes: 0 });
  }

  get doneBytes(): number {
    return this.#doneBytes;
  }

  add(bytes: number): void {
    this.#doneBytes += bytes;
    const atMs = this.#now();
    const last = this.#samples.at(-1);
    if (last !== undefined && atMs - last.atMs < RATE_WINDOW_MS / SAMPLES_PER_WINDOW) return;
    this.#samples.push({ atMs, doneBytes: this.#doneBytes });
    while (this.#samples.length > 2 && atMs - (this.#samples[1]?.atMs ?? atMs) > RATE_WINDOW_MS) this.#samples.shift();
  }

  /** What was done is to be done again. */
  restart(): void {
    this.continueAt(0);
  }

  /** So much is there already, which says nothing about the rate. */
  continueAt(doneBytes: number): void {
    this.#doneBytes = doneBytes;
    this.#samples.splice(0, this.#samples.length, { atMs: this.#now(), doneBytes });
  }

  snapshot(): ImportProgress {
    const { stage, totalBytes, format, diskBytes, resumed, trouble } = this;
    const doneBytes = this.#doneBytes;
    return {
      version: IMPORT_VERSION,
      stage,
      doneBytes,
      totalBytes,
      bytesPerSecond: this.#rate(),
      format,
      diskBytes,
      resumed,
      ...(trouble && { trouble }),
    };
  }

  #rate(): number {
    const first = this.#samples[0];
    if (first === undefined) return 0;
    const seconds = (this.#now() - first.atMs) / 1000;
    return seconds <= 0 ? 0 : Math.round((this.#doneBytes - first.doneBytes) / seconds);
  }
}
