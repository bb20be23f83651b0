import type WebSocket from "ws";
import type { Environment } from "../environment.ts";
import { CliError } from "../exit-codes.ts";
import type { Cluster } from "./cluster.ts";

/** Streams of remotecommand, by their first byte; 255 half-closes the one that follows (v5 only). */
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const RESIZE = 4;
const CLOSE = 255;

/** Ctrl-]: what the launcher's console takes for "detach", as telnet does. */
const DETACH_BYTE = 0x1d;
/** How long the other side may take to end after that. */
const DETACH_GRACE_MS = 1_000;
/** What is typed, or piped, faster than the network takes it: no more is read while so much waits. */
const HIGH_WATER_BYTES = 1 << 20;

export interface ExecRequest {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
  /** A terminal on both sides; needs one on ours. */
  readonly tty: boolean;
}

interface ExecStatus {
  readonly status?: string;
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly causes?: readonly { readonly reason?: string; readonly message?: string }[] };
}

/** Runs a command in a container with our input and output; answers its exit code. The terminal is as before afterwards. */
export async function exec(cluster: Cluster, request: ExecRequest, environment: Environment): Promise<number> {
  const { namespace, pod, container, command, tty } = request;
  const query = new URLSearchParams({
    container,
    stdin: "true",
    stdout: "true",
    stderr: String(!tty),
    tty: String(tty),
  });
  for (const word of command) query.append("command", word);
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/exec`;
  const socket = await cluster.stream(path, query);
  using _terminal = tty ? rawTerminal(environment) : undefined;
  // Awaited here: the terminal stays raw until the session has ended.
  return await new ExecSession(socket, environment, tty).run();
}

class ExecSession {
  readonly #socket: WebSocket;
  readonly #environment: Environment;
  readonly #tty: boolean;
  readonly #ended = Promise.withResolvers<number>();

  constructor(socket: WebSocket, environment: Environment, tty: boolean) {
    this.#socket = socket;
    this.#environment = environment;
    this.#tty = tty;
  }

  async run(): Promise<number> {
    const { stdin, stdout, signal } = this.#environment;
    const onData = (bytes: Buffer | string) => this.#typed(Buffer.from(bytes));
    const onEnd = () => this.#inputEnded();
    const onResize = () => this.#resize();
    const onAbort = () => this.#ended.resolve(130);
    this.#socket.on("message", (data: Buffer) => this.#message(data));
    this.#socket.on("error", (error) => this.#ended.reject(new CliError(`the connection broke (${error.message})`)));
    this.#socket.on("close", () =>
      this.#ended.reject(new CliError("the connection was closed before the command ended; is the node well?")),
    );
    this.#socket.resume();
    stdin.on("data", onData).once("end", onEnd);
    signal.addEventListener("abort", onAbort, { once: true });
    if (this.#tty) {
      this.#resize();
      stdout.on?.("resize", onResize);
    }
    try {
      return await this.#ended.promise;
    } finally {
      stdin.off("data", onData).off("end", onEnd).pause();
      stdout.off?.("resize", onResize);
      signal.removeEventListener("abort", onAbort);
      this.#socket.removeAllListeners("close").terminate();
    }
  }

  #message(data: Buffer): void {
    const { stdout, stderr } = this.#environment;
    const bytes = data.subarray(1);
    switch (data[0]) {
      case STDOUT:
        if (!stdout.write(bytes)) this.#holdBack();
        return;
      case STDERR:
        stderr.write(bytes);
        return;
      case STATUS:
        this.#status(bytes.toString("utf8"));
    }
  }

  /** Nothing is read from the guest until the terminal has shown what it was given. */
  #holdBack(): void {
    const { stdout } = this.#environment;
    const goOn = () => {
      stdout.off?.("drain", goOn);
      this.#socket.resume();
    };
    if (stdout.on === undefined) return;
    this.#socket.pause();
    stdout.on("drain", goOn);
  }

  #status(text: string): void {
    const status = JSON.parse(text) as ExecStatus;
    if (status.status === "Success") {
      this.#ended.resolve(0);
      return;
    }
    const code = status.details?.causes?.find(({ reason }) => reason === "ExitCode")?.message;
    if (status.reason === "NonZeroExitCode" && code !== undefined) this.#ended.resolve(Number(code));
    else this.#ended.reject(new CliError(status.message ?? "the command could not be run"));
  }

  #typed(bytes: Buffer): void {
    const detachAt = this.#tty ? bytes.indexOf(DETACH_BYTE) : -1;
    const { stdin } = this.#environment;
    if (this.#socket.bufferedAmount > HIGH_WATER_BYTES) stdin.pause();
    this.#send(STDIN, detachAt < 0 ? bytes : bytes.subarray(0, detachAt + 1), () => stdin.resume());
    if (detachAt >= 0) setTimeout(() => this.#ended.resolve(0), DETACH_GRACE_MS).unref();
  }

  #inputEnded(): void {
    if (this.#socket.protocol.startsWith("v5")) this.#socket.send(Buffer.from([CLOSE, STDIN]));
  }

  #resize(): void {
    const { columns: Width, rows: Height } = this.#environment.stdout;
    // Terminals that nobody looks at have a size of 0.
    if (Width && Height) this.#send(RESIZE, Buffer.from(JSON.stringify({ Width, Height })));
  }

  #send(stream: number, bytes: Buffer, sent?: () => void): void {
    this.#socket.send(Buffer.concat([Buffer.from([stream]), bytes]), sent);
  }
}

function rawTerminal({ stdin }: Environment): Disposable {
  stdin.setRawMode?.(true);
  const restore = () => stdin.setRawMode?.(false);
  process.once("exit", restore);
  return {
    [Symbol.dispose]: () => {
      process.off("exit", restore);
      restore();
    },
  };
}
