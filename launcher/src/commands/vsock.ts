import { once } from "node:events";
import { rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { errorCode, errorText } from "../log/error-text.ts";
import { type VsockOptions, vsockExit } from "./vsock-options.ts";

/** "OK " and the longest port, with its end. */
const ANSWER_MAX_BYTES = 32;

/** `launcher vsock`: joins this process's input and output to a port of the guest. Answers the exit code. */
export async function joinVsock(options: VsockOptions): Promise<number> {
  let socket: Socket;
  try {
    socket = options.listens ? await guestOf(options) : await dial(options);
  } catch (error) {
    say(errorText(error));
    return vsockExit.unreachable;
  }
  return await join(socket);
}

async function dial({ socketPath, port }: VsockOptions): Promise<Socket> {
  const socket = connect({ path: socketPath, allowHalfOpen: true });
  try {
    socket.write(`CONNECT ${port}\n`);
    await answer(socket);
    return socket;
  } catch (error) {
    socket.destroy();
    const isMissing = ["ENOENT", "ECONNREFUSED", "EACCES"].includes(errorCode(error) ?? "");
    if (!isMissing) throw new Error(`the guest does not take a connection to port ${port}`, { cause: error });
    const way = "does the machine's spec have vsock, and does it run?";
    throw new Error(`no machine answers at ${socketPath} (${errorText(error)}): ${way}`, { cause: error });
  }
}

/** Takes the line that confirms the connection; what follows is the guest's. */
async function answer(socket: Socket): Promise<void> {
  let text = "";
  for (;;) {
    await once(socket, "readable");
    const bytes: Buffer | null = socket.read();
    if (bytes === null) throw new Error("closed");
    const end = bytes.indexOf("\n");
    text += bytes.toString("latin1", 0, end < 0 ? bytes.length : end);
    if (end >= 0) socket.unshift(bytes.subarray(end + 1));
    if (end >= 0 && /^OK \d+$/.test(text)) return;
    if (end >= 0 || text.length > ANSWER_MAX_BYTES) throw new Error("not an answer of a launcher");
  }
}

/** The first connection that the guest makes. */
async function guestOf({ socketPath, port }: VsockOptions): Promise<Socket> {
  const path = `${socketPath}_${port}`;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  try {
    server.listen(path);
    await once(server, "listening");
    const [socket] = await once(server, "connection");
    return socket;
  } catch (error) {
    const isTaken = errorCode(error) === "EADDRINUSE";
    throw isTaken ? new Error(`somebody listens at ${path} already, or left it behind: remove it`) : error;
  } finally {
    if (server.listening) server.close();
    rmSync(path, { force: true });
  }
}

function join(socket: Socket): Promise<number> {
  const { stdin, stdout } = process;
  return new Promise((resolve) => {
    const leave = (code: number) => {
      stdin.destroy();
      socket.destroy();
      resolve(code);
    };
    stdout.on("error", () => leave(vsockExit.broken));
    stdin.on("error", () => leave(vsockExit.broken));
    socket.on("error", (error) => {
      say(`the connection broke (${errorText(error)})`);
      leave(vsockExit.broken);
    });
    stdin.pipe(socket);
    socket.pipe(stdout, { end: false });
    // All that came is with standard output by then, or waits there for its reader.
    socket.once("end", () => stdout.write("", () => leave(vsockExit.ended)));
  });
}

function say(sentence: string): void {
  process.stderr.write(`vsock: ${sentence}\n`);
}
