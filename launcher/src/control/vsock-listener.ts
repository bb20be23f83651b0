import { chmodSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";

/** "CONNECT " and the longest port, with its end. */
const GREETING_MAX_BYTES = 32;
/** How long a client may take to say which port it wants. */
const GREETING_LIMIT_MS = 5_000;
/** Clients that have not said it yet. */
const MAX_WAITING = 64;
const PORT_LIMIT = 2 ** 32 - 1;

/** Hands a socket on to a port of the guest. */
export type VsockConnect = (socket: Socket, guestPort: number) => void;

/**
 * The way to the guest's ports: a client of the unix socket at `path` says `CONNECT PORT\n`, and is answered `OK PORT\n`
 * once the guest has taken the connection; else it is closed. Only the launcher's own user may. As of other virtual machine
 * monitors, so that their clients work.
 */
export async function listenForVsock(connect: VsockConnect, path: string): Promise<Server> {
  let waiting = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    if (waiting >= MAX_WAITING) {
      socket.destroy();
      return;
    }
    waiting++;
    readGreeting(socket, (port) => {
      waiting--;
      if (port === undefined) socket.destroy();
      else connect(socket, port);
    });
  });
  const unready = `${path}~`;
  rmSync(unready, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen({ path: unready }, resolve);
  });
  chmodSync(unready, 0o600);
  renameSync(unready, path);
  return server;
}

/** Calls `done` once: with the port, or with undefined where the client says something else, or nothing in time. */
function readGreeting(socket: Socket, done: (port: number | undefined) => void): void {
  let text = "";
  const finish = (port: number | undefined) => {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("close", fail);
    socket.off("end", fail);
    done(port);
  };
  const fail = () => finish(undefined);
  const timer = setTimeout(fail, GREETING_LIMIT_MS).unref();
  const read = () => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) {
      if (socket.readableEnded) fail();
      return;
    }
    const end = bytes.indexOf("\n");
    text += bytes.toString("latin1", 0, end < 0 ? GREETING_MAX_BYTES : end);
    if (end < 0 && text.length < GREETING_MAX_BYTES) return;
    // What follows is the guest's.
    if (end >= 0 && end + 1 < bytes.length) socket.unshift(bytes.subarray(end + 1));
    finish(end < 0 ? undefined : portOf(text));
  };
  socket.on("error", () => {});
  socket.on("readable", read);
  socket.once("close", fail);
  socket.once("end", fail);
}

function portOf(greeting: string): number | undefined {
  const port = Number(/^CONNECT (\d{1,10})$/.exec(greeting)?.[1] ?? Number.NaN);
  return port < PORT_LIMIT ? port : undefined;
}
