import { setTimeout as delay } from "node:timers/promises";
import { AGENT_LINE_MAX_BYTES, type AgentAnswer, type AgentWant } from "../../../../launcher/api/agent.ts";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { connectUnix, recvFds, sendFds, setSocketTimeout } from "../../../../launcher/src/sys/unix-socket.ts";

const DEADLINE_MS = 20_000;

/** A client of the agent that shares an event loop with it: it never waits in the kernel. */
export class AskingSocket implements Disposable {
  readonly #socket: OwnedFd;
  /** Answers without descriptors that came together with an earlier one. */
  #more = "";

  constructor(path: string) {
    this.#socket = connectUnix(path);
    setSocketTimeout(this.#socket.fd, 1);
  }

  send(bytes: string | Uint8Array): void {
    sendFds(this.#socket.fd, Buffer.from(bytes as string), []);
  }

  async ask(want: readonly AgentWant[]): Promise<{ answer: AgentAnswer; fds: readonly OwnedFd[] }> {
    this.send(`${JSON.stringify({ version: 1, want })}\n`);
    return this.receive();
  }

  /** The next answer with its descriptors; throws at the end of the stream. */
  async receive(): Promise<{ answer: AgentAnswer; fds: readonly OwnedFd[] }> {
    const { text, fds } = this.#more === "" ? await this.#receiveBytes() : { text: this.#more, fds: [] };
    if (text === "") throw new Error("the agent closed the connection");
    const end = text.indexOf("\n") + 1;
    this.#more = text.slice(end);
    return { answer: JSON.parse(text.slice(0, end)), fds };
  }

  /** Resolves once the agent has closed the connection. */
  async closed(): Promise<void> {
    for (let more = true; more; ) more = (await this.#receiveBytes()).text !== "";
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  async #receiveBytes(): Promise<{ text: string; fds: readonly OwnedFd[] }> {
    const buffer = new Uint8Array(new ArrayBuffer(AGENT_LINE_MAX_BYTES));
    for (const giveUpAt = performance.now() + DEADLINE_MS; performance.now() < giveUpAt; await delay(1)) {
      try {
        const { lengthBytes, fds } = recvFds(this.#socket.fd, buffer, 16);
        return { text: Buffer.from(buffer.buffer, 0, lengthBytes).toString(), fds };
      } catch (error) {
        const code: unknown = Object(error).code;
        if (code === "ECONNRESET") return { text: "", fds: [] };
        if (code !== "EAGAIN") throw error;
      }
    }
    throw new Error("the agent does not answer");
  }
}
