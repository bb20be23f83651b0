import { connect, type Socket } from "node:net";
import type { ReadStream } from "node:tty";
import { CONSOLE_UPGRADE } from "../../api/control.ts";
import { errorCode, errorText } from "../log/error-text.ts";
import { type ConsoleOptions, consoleExit } from "./console-options.ts";
import { UpgradeReply } from "./upgrade-reply.ts";

/** Ctrl-]: what telnet and virsh use. */
const DETACH_BYTE = 0x1d;

/** `launcher console`: joins this terminal, or pipe, to the guest's console. Answers the exit code. */
export async function attachConsole(options: ConsoleOptions): Promise<number> {
  const socket = connect(options.socketPath);
  try {
    const early = await upgrade(socket, options);
    return await new ConsoleSession(socket, options).run(early);
  } catch (error) {
    const missing = ["ENOENT", "ECONNREFUSED", "EACCES"].includes(errorCode(error) ?? "");
    say(missing ? `no launcher answers at ${options.socketPath} (${errorText(error)})` : errorText(error));
    return consoleExit.unreachable;
  } finally {
    socket.destroy();
  }
}

/** Sends the request; answers the console's bytes that came with the reply. */
function upgrade(socket: Socket, { write, history, port }: ConsoleOptions): Promise<Buffer> {
  const query = `access=${write ? "write" : "read"}&history=${history}${port === undefined ? "" : `&port=${port}`}`;
  socket.write(
    `GET /v1/console?${query} HTTP/1.1\r\nHost: launcher\r\nConnection: Upgrade\r\nUpgrade: ${CONSOLE_UPGRADE}\r\n\r\n`,
  );
  const reply = new UpgradeReply();
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error(reply.refusal));
    const take = (bytes: Buffer) => {
      const early = reply.take(bytes);
      if (early === undefined) {
        if (reply.tooLong) fail();
        return;
      }
      socket.off("data", take);
      socket.off("end", fail);
      socket.off("error", reject);
      socket.pause();
      resolve(early);
    };
    socket.on("data", take);
    socket.on("end", fail);
    socket.on("error", reject);
  });
}

/** From the upgrade to the detach. Whatever way it ends, the terminal is as it was. */
class ConsoleSession {
  readonly #socket: Socket;
  readonly #options: ConsoleOptions;
  readonly #ended = Promise.withResolvers<number>();

  constructor(socket: Socket, options: ConsoleOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  async run(early: Buffer): Promise<number> {
    using _terminal = rawTerminal(this.#options);
    this.#onSignals();
    this.#output(early);
    this.#input();
    const code = await this.#ended.promise;
    process.stdin.destroy();
    return code;
  }

  #onSignals(): void {
    for (const [signal, number] of [
      ["SIGHUP", 1],
      ["SIGINT", 2],
      ["SIGTERM", 15],
    ] as const)
      process.once(signal, () => this.#ended.resolve(128 + number));
  }

  #output(early: Buffer): void {
    const { stdout } = process;
    // Nobody reads any more: the same as a detach.
    stdout.on("error", () => this.#ended.resolve(consoleExit.detached));
    if (early.length > 0) stdout.write(early);
    this.#socket.pipe(stdout, { end: false });
    this.#socket.once("end", () => {
      say("the console was closed: the machine has ended");
      this.#ended.resolve(consoleExit.detached);
    });
    this.#socket.once("error", (error) => {
      say(`the connection broke (${errorText(error)})`);
      this.#ended.resolve(consoleExit.broken);
    });
  }

  #input(): void {
    const { stdin } = process;
    stdin.on("error", () => this.#ended.resolve(consoleExit.broken));
    // A terminal that hung up; a pipe that ended only has nothing more to say, and its output may still be wanted.
    stdin.once("end", () => {
      if (stdin.isTTY) this.#ended.resolve(consoleExit.detached);
    });
    stdin.on("data", (bytes: Buffer) => {
      const detachAt = stdin.isTTY ? bytes.indexOf(DETACH_BYTE) : -1;
      const typed = detachAt < 0 ? bytes : bytes.subarray(0, detachAt);
      if (this.#options.write && typed.length > 0 && !this.#socket.write(typed)) {
        stdin.pause();
        this.#socket.once("drain", () => stdin.resume());
      }
      if (detachAt >= 0) this.#ended.resolve(consoleExit.detached);
    });
  }
}

function rawTerminal({ write }: ConsoleOptions): Disposable {
  const stdin = process.stdin as ReadStream;
  if (!stdin.isTTY) return { [Symbol.dispose]: () => {} };
  const restore = () => stdin.setRawMode(false);
  stdin.setRawMode(true);
  process.once("exit", restore);
  process.stderr.write(`attached${write ? "" : " for reading"}; Ctrl-] detaches\r\n`);
  return {
    [Symbol.dispose]: () => {
      restore();
      process.stderr.write("\ndetached\n");
    },
  };
}

function say(sentence: string): void {
  process.stderr.write(`console: ${sentence}\n`);
}
