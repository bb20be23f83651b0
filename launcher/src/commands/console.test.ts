import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { until } from "../testing/until.ts";
import { LauncherProcess } from "./testing/launcher-process.ts";

jest.setTimeout(30_000);

const node = join(import.meta.dirname, "../../../node_modules/.bin/node");
const main = join(import.meta.dirname, "../main.ts");
const CTRL_RIGHT_BRACKET = "\x1d";

let launcher: LauncherProcess;
const clients: Client[] = [];

beforeEach(async () => {
  launcher = await new LauncherProcess().start("obedient").ready();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.kill();
  await launcher[Symbol.asyncDispose]();
});

class Client {
  output = "";
  errors = "";
  readonly #child: ChildProcessWithoutNullStreams;
  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args);
    this.#child.stdout.on("data", (bytes) => (this.output += bytes));
    this.#child.stderr.on("data", (bytes) => (this.errors += bytes));
    this.#child.stdin.on("error", () => {});
    clients.push(this);
  }
  type(text: string): void {
    this.#child.stdin.write(text);
  }
  endInput(): void {
    this.#child.stdin.end();
  }
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
  stopReading(): void {
    this.#child.stdout.destroy();
  }
  kill(): void {
    this.#child.kill("SIGKILL");
  }
  async shows(text: string): Promise<void> {
    await until(() => this.output.includes(text));
  }
  async exit(): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
    return this.#child.exitCode;
  }
}

const piped = (...args: string[]) => new Client(node, [main, "console", "--socket", launcher.socketPath, ...args]);

/** The client on a terminal of its own, then what that terminal's settings are. */
function onTerminal(...args: string[]): Client {
  const quoted = [node, main, "console", "--socket", launcher.socketPath, ...args].map((arg) => `'${arg}'`).join(" ");
  return new Client("script", ["-qec", `${quoted}; code=$?; stty -a; exit $code`, "/dev/null"]);
}

describe("launcher console through a pipe", () => {
  it("shows history and carries input, then output until the machine ends", async () => {
    const client = piped();
    await client.shows("login: ");
    client.type("root\n");
    await client.shows("ROOT\n");
    client.endInput();
    launcher.signal("SIGTERM");
    expect(await client.exit()).toBe(0);
    expect(client.errors).toBe("console: the console was closed: the machine has ended\n");
  });

  it("leaves history out when told, and passes Ctrl-] on like any byte", async () => {
    const client = piped("--no-history");
    client.type(`x${CTRL_RIGHT_BRACKET}y`);
    await client.shows(`X${CTRL_RIGHT_BRACKET}Y`);
    expect(client.output).not.toContain("login");
  });

  it("sends nothing when it only reads", async () => {
    const [reader, writer] = [piped("--read-only"), piped()];
    await reader.shows("login: ");
    reader.type("evil");
    writer.type("good");
    await reader.shows("GOOD");
    expect(reader.output).not.toContain("EVIL");
  });

  it("joins the virtio console when told", async () => {
    const client = piped("--port", "virtio");
    client.type("ab");
    await client.shows("abab");
    expect(client.output).toBe("abab");
  });

  it("serves several at once", async () => {
    const both = [piped(), piped()];
    for (const client of both) await client.shows("login: ");
    both[0]?.type("hi");
    for (const client of both) await client.shows("HI");
  });

  it("ends when nobody reads it any more", async () => {
    const client = piped();
    await client.shows("login: ");
    client.stopReading();
    client.type("more");
    expect(await client.exit()).toBe(0);
  });
});

describe("launcher console on a terminal", () => {
  it("passes control characters to the guest, detaches with Ctrl-], and restores the terminal", async () => {
    const client = onTerminal();
    await client.shows("login: ");
    client.type("\x03\x04a");
    await client.shows("\x03\x04A");
    client.type(CTRL_RIGHT_BRACKET);
    expect(await client.exit()).toBe(0);
    expect(client.output).toContain("Ctrl-] detaches");
    expect(client.output).toMatch(/ icanon.* echo /s);
  });

  it("restores the terminal when the machine ends", async () => {
    const client = onTerminal();
    await client.shows("login: ");
    launcher.signal("SIGTERM");
    expect(await client.exit()).toBe(0);
    expect(client.output).toContain("the machine has ended");
    expect(client.output).toMatch(/ icanon.* echo /s);
  });
});

describe("launcher console says what is wrong", () => {
  it("when no launcher answers", async () => {
    const client = new Client(node, [main, "console", "--socket", "/nowhere/control.sock"]);
    expect(await client.exit()).toBe(3);
    expect(client.errors).toMatch(/^console: no launcher answers at \/nowhere\/control\.sock \(.*ENOENT/);
  });

  it("when it is used wrongly", async () => {
    const client = piped("--colour");
    expect(await client.exit()).toBe(2);
    expect(client.errors).toMatch(/Unknown option '--colour'[\s\S]*--read-only/);
  });

  it("when there is no such port", async () => {
    const client = piped("--port", "ttyS0");
    expect(await client.exit()).toBe(2);
    expect(client.errors).toMatch(/--port takes serial or virtio, not "ttyS0"/);
  });

  it("when the launcher refuses, in the launcher's own words", async () => {
    const upgrade = "GET /v1/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: typevisor-console\r\n\r\n";
    const readers = Array.from({ length: 16 }, () => connect(launcher.socketPath));
    for (const reader of readers) {
      reader.write(upgrade);
      await once(reader, "data");
    }
    const client = piped();
    expect(await client.exit()).toBe(3);
    expect(client.errors).toBe("console: 16 consoles are attached already; detach one\n");
    for (const reader of readers) reader.destroy();
  });

  it.each([
    ["", "console: the launcher closed the connection without an answer\n"],
    ["HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "console: the launcher answered with HTTP status 502\n"],
    ["x".repeat(300_000), "console: the launcher's answer is too long\n"],
  ])("when something else answers (%#)", async (answer, says) => {
    const path = join(launcher.directory, "other.sock");
    const server = createServer((socket) => socket.on("error", () => {}).end(answer)).listen(path);
    await once(server, "listening");
    const client = new Client(node, [main, "console", "--socket", path]);
    const code = await client.exit();
    server.close();
    expect(code).toBe(3);
    expect(client.errors).toBe(says);
  });
});
