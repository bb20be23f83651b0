import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { until } from "../testing/until.ts";
import { parseVsockOptions } from "./vsock-options.ts";

const node = join(import.meta.dirname, "../../../node_modules/.bin/node");
const main = join(import.meta.dirname, "../main.ts");

let directory: string;
let path: string;
const servers: Server[] = [];
const children: ChildProcessWithoutNullStreams[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "vsock-command-"));
  path = join(directory, "v");
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const server of servers.splice(0)) server.close();
  rmSync(directory, { recursive: true });
});

function launch(...args: readonly string[]) {
  const child = spawn(node, [main, "vsock", ...args]);
  children.push(child);
  const said = { output: "", errors: "" };
  child.stdout.on("data", (bytes) => (said.output += bytes));
  child.stderr.on("data", (bytes) => (said.errors += bytes));
  const exit = once(child, "close").then(([code]) => code);
  return { child, said, exit };
}

/** A launcher's socket that answers each client in its own way. */
function answerClients(answer: (socket: Socket, greeting: string) => void): void {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once("data", (bytes) => answer(socket, String(bytes)));
  });
  servers.push(server.listen(path));
}

/** A socket's file is there a moment before anybody listens. */
async function connectTo(file: string): Promise<Socket> {
  let socket = new Socket();
  await until(async () => {
    socket = connect(file);
    return await once(socket, "connect").then(
      () => true,
      () => false,
    );
  });
  return socket;
}

describe("launcher vsock", () => {
  it("joins its input and output to a port of the guest, until the guest ends", async () => {
    answerClients((socket, greeting) => {
      socket.write(`OK 1073741824\n${greeting}`);
      socket.on("data", (bytes) => socket.write(bytes));
      socket.on("end", () => socket.end("bye"));
    });
    const { child, said, exit } = launch("--socket", path, "22");
    child.stdin.write("hello");
    await until(() => said.output === "CONNECT 22\nhello");
    child.stdin.end();
    expect(await exit).toBe(0);
    expect(said).toEqual({ output: "CONNECT 22\nhellobye", errors: "" });
  });

  it("ends with its input still open when the guest ends", async () => {
    answerClients((socket) => socket.end("OK 1\nall"));
    const { said, exit } = launch("--socket", path, "22");
    expect(await exit).toBe(0);
    expect(said.output).toBe("all");
  });

  it("waits for the guest with --listen, and leaves nothing behind", async () => {
    const { said, exit } = launch("--listen", "--socket", path, "9000");
    const socket = await connectTo(`${path}_9000`);
    socket.end("from the guest");
    expect(await exit).toBe(0);
    expect(said.output).toBe("from the guest");
    expect(existsSync(`${path}_9000`)).toBe(false);
  });

  it("says why it cannot: no machine, a guest that refuses, wrong usage", async () => {
    const missing = launch("--socket", path, "22");
    expect(await missing.exit).toBe(3);
    expect(missing.said.errors).toMatch(/no machine answers at .*does the machine's spec have vsock/);
    answerClients((socket) => socket.end());
    const refused = launch("--socket", path, "22");
    expect(await refused.exit).toBe(3);
    expect(refused.said.errors).toBe("vsock: the guest does not take a connection to port 22\n");
    const wrong = launch();
    expect(await wrong.exit).toBe(2);
    expect(wrong.said.errors).toContain("vsock takes one port");
  });

  it.each(["-1", "x", "4294967295", "99999999999", ""])("refuses the port %j", (port) => {
    expect(() => parseVsockOptions(["--", port])).toThrow(/is no port; give a number from 0 to 4294967294/);
  });
});
