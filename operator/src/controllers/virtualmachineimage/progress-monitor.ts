import http from "node:http";
import type { ImportProgress } from "../../../../launcher/api/import.ts";
import type { Clock } from "../../runtime/clock.ts";
import { parseProgress } from "./termination.ts";

/** Asks an importer; rejects where it does not answer. */
export type AskImporter = (ip: string) => Promise<ImportProgress>;

const INTERVAL_MS = 2_000;
const TIMEOUT_MS = 2_000;
const ANSWER_MAX_BYTES = 16 * 1024;

/** Asks importers that run how far they are, and tells who wants to know. One that cannot be reached costs nothing but that. */
export class ProgressMonitor implements Disposable {
  readonly #ask: AskImporter;
  readonly #clock: Clock;
  readonly #onNews: (key: string) => void;
  readonly #known = new Map<string, ImportProgress>();
  readonly #timers = new Map<string, Disposable | undefined>();

  constructor(ask: AskImporter, clock: Clock, onNews: (key: string) => void) {
    this.#ask = ask;
    this.#clock = clock;
    this.#onNews = onNews;
  }

  /** What the importer in that pod said last. */
  progress(podUID: string): ImportProgress | undefined {
    return this.#known.get(podUID);
  }

  /** Asks the importer after a while; each answer queues `key`, whose pass follows on. */
  follow(podUID: string, ip: string, key: string): void {
    if (this.#timers.has(podUID)) return;
    const delayMs = this.#known.has(podUID) ? INTERVAL_MS : 0;
    const timer = this.#clock.after(delayMs, () => {
      this.#timers.set(podUID, undefined);
      void this.#askOnce(podUID, ip, key);
    });
    this.#timers.set(podUID, timer);
  }

  forget(podUID: string): void {
    this.#timers.get(podUID)?.[Symbol.dispose]();
    this.#timers.delete(podUID);
    this.#known.delete(podUID);
  }

  [Symbol.dispose](): void {
    for (const podUID of [...this.#timers.keys()]) this.forget(podUID);
  }

  async #askOnce(podUID: string, ip: string, key: string): Promise<void> {
    const said = await this.#ask(ip).catch(() => undefined);
    if (!this.#timers.has(podUID)) return;
    this.#timers.delete(podUID);
    if (said !== undefined) {
      this.#known.set(podUID, said);
      this.#onNews(key);
      return;
    }
    this.#timers.set(
      podUID,
      this.#clock.after(INTERVAL_MS, () => {
        this.#timers.delete(podUID);
        this.#onNews(key);
      }),
    );
  }
}

/** Asks by plain HTTP: what comes is numbers for people, and believed no further. */
export function askImporterAt(port: number): AskImporter {
  return (host) =>
    new Promise((resolve, reject) => {
      const request = http.get({ host, port, path: "/progress", agent: false, timeout: TIMEOUT_MS }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
          if (text.length > ANSWER_MAX_BYTES) request.destroy(new Error("the answer is too long"));
        });
        response.on("error", reject);
        response.on("end", () => {
          const progress = asProgress(text);
          if (progress === undefined) reject(new Error("the answer is no progress"));
          else resolve(progress);
        });
      });
      request.setTimeout(TIMEOUT_MS, () => request.destroy(new Error("no answer in time")));
      request.on("error", reject);
    });
}

function asProgress(text: string): ImportProgress | undefined {
  try {
    return parseProgress(JSON.parse(text));
  } catch {
    return undefined;
  }
}
