import { connect, type Socket } from "node:net";
import { waitFor } from "../../lib/step.ts";

const START_DEADLINE_MS = 60_000;
const ANSWER_DEADLINE_MS = 60_000;

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** QEMU's machine protocol on a unix socket: one command at a time; events are left out. */
export class Qmp implements Disposable {
  readonly #socket: Socket;
  #text = "";
  #answered: ((message: Message) => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.on("data", (part: string) => {
      this.#text += part;
      for (let end = this.#text.indexOf("\n"); end >= 0; end = this.#text.indexOf("\n")) {
        const message = JSON.parse(this.#text.slice(0, end)) as Message;
        this.#text = this.#text.slice(end + 1);
        if ("return" in message || "error" in message) this.#answered?.(message);
      }
    });
  }

  /** Waits for the socket, which QEMU makes when it starts. */
  static async connect(path: string): Promise<Qmp> {
    const open = () => {
      const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
      const socket = connect(path, () => resolve(socket));
      socket.once("error", () => resolve(undefined));
      return promise;
    };
    const socket = await waitFor(open, { what: "QEMU's QMP", timeoutMs: START_DEADLINE_MS, intervalMs: 20 });
    const qmp = new Qmp(socket);
    await qmp.ask("qmp_capabilities");
    return qmp;
  }

  /** Rejects with what QEMU says against it. */
  async ask<Answer>(execute: string, parameters: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const timer = setTimeout(() => reject(new Error(`QEMU does not answer ${execute}`)), ANSWER_DEADLINE_MS);
    this.#answered = resolve;
    this.#socket.write(`${JSON.stringify({ execute, arguments: parameters })}\n`);
    const { error, ...answer } = await promise.finally(() => clearTimeout(timer));
    if (error) throw new Error(`QEMU refuses ${execute}: ${error.desc}`);
    return answer.return as Answer;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
