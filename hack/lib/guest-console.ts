import { randomUUID } from "node:crypto";
import type { Readable, Writable } from "node:stream";

/** What was expected on the console did not come. */
export class ConsoleTimeout extends Error {
  override name = "ConsoleTimeout";
  readonly pattern: string;
  /** What stood there instead. */
  readonly text: string;
  constructor(pattern: string | RegExp, timeoutMs: number, text: string) {
    const tail = text.split("\n").slice(-25).join("\n");
    super(`the console did not show ${String(pattern)} within ${timeoutMs / 1000} s; its end:\n${tail}`);
    this.pattern = String(pattern);
    this.text = text;
  }
}

/** The console's stream ended while something was expected on it. */
export class ConsoleEnded extends Error {
  override name = "ConsoleEnded";
  constructor(pattern: string | RegExp, text: string) {
    super(`the console ended before it showed ${String(pattern)}; its end:\n${text.split("\n").slice(-25).join("\n")}`);
  }
}

/** A person at a guest's console: reads on from where the last expectation was met. */
export class ConsoleUser {
  readonly #output: Readable;
  readonly #input: Writable;
  #text = "";
  /** Everything before has been looked at. */
  #readTo = 0;
  #lastHeardMs = performance.now();
  #ended = false;
  #commands = 0;
  /** A guest that moves takes along what users before this one have typed. */
  readonly #name = randomUUID().slice(0, 8);
  readonly #changed = new Set<() => void>();

  /** `output` is what the guest shows, `input` is where one types; of a socket, both are the same. */
  constructor(output: Readable, input: Writable) {
    this.#output = output;
    this.#input = input;
    output.setEncoding("utf8");
    output.on("data", (chunk: string) => {
      this.#text += chunk;
      this.#lastHeardMs = performance.now();
      this.#notify();
    });
    output.on("close", () => {
      this.#ended = true;
      this.#notify();
    });
    // Its end tells all that matters.
    output.on("error", () => {});
    input.on("error", () => {});
  }

  /** All that was shown since this user came, and the history before. */
  get text(): string {
    return this.#text;
  }

  /** For how long nothing was shown. */
  get silentMs(): number {
    return performance.now() - this.#lastHeardMs;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Waits until `pattern` is shown; gives the match and reads on after it. */
  async see(pattern: string | RegExp, timeoutMs = 120_000): Promise<RegExpExecArray> {
    const expression = typeof pattern === "string" ? new RegExp(literally(pattern)) : pattern;
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const unread = this.#text.slice(this.#readTo);
      const match = expression.exec(unread);
      if (match) {
        this.#readTo += match.index + match[0].length;
        return match;
      }
      if (this.#ended) throw new ConsoleEnded(pattern, this.#text);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw new ConsoleTimeout(pattern, timeoutMs, this.#text);
      await this.#change(leftMs);
    }
  }

  type(text: string): void {
    this.#input.write(text);
  }

  /** Runs a line in the guest's shell; gives what it printed, without what the terminal echoed. */
  async shell(line: string, timeoutMs = 60_000): Promise<string> {
    const mark = `mark-${this.#name}-${++this.#commands}`;
    // Written so that the echo of the line does not contain the marks themselves.
    this.type(`echo ${mark}''-begin; ${line}; echo ${mark}''-end\n`);
    await this.see(new RegExp(`${mark}-begin\r?\n`), timeoutMs);
    const end = await this.#upTo(new RegExp(`${mark}-end\r?\n`), timeoutMs);
    return end.replaceAll("\r\n", "\n").trimEnd();
  }

  async #upTo(pattern: RegExp, timeoutMs: number): Promise<string> {
    const from = this.#readTo;
    const match = await this.see(pattern, timeoutMs);
    return this.#text.slice(from, this.#readTo - match[0].length);
  }

  close(): void {
    this.#output.destroy();
    this.#input.destroy();
  }

  #notify(): void {
    for (const wake of this.#changed) wake();
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#changed.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#changed.add(wake);
    });
  }
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
