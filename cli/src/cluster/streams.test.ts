import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { type WebSocket, WebSocketServer } from "ws";
import { until } from "../../../operator/src/runtime/testing/until.ts";
import { exitCodes } from "../exit-codes.ts";
import { run } from "../run.ts";
import { Screen, TestCli } from "../testing/cli.ts";
import { launcherPod, machine } from "../testing/fixtures.ts";

/** The streams of an API server; the test plays the container. */
class FakeStreams implements AsyncDisposable {
  readonly #http = createServer();
  readonly #sockets = new WebSocketServer({ server: this.#http, handleProtocols: () => "v5.channel.k8s.io" });
  readonly received: Buffer[] = [];
  url = "";
  socket: WebSocket | undefined;

  async start(port = 0): Promise<this> {
    this.#sockets.on("connection", (socket, request) => {
      this.url = request.url ?? "";
      this.socket = socket;
      socket.on("message", (data: Buffer) => this.received.push(data));
    });
    this.#http.listen(port, "127.0.0.1");
    await once(this.#http, "listening");
    return this;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  send(stream: number, bytes: string | Buffer): void {
    this.socket?.send(Buffer.concat([Buffer.from([stream]), Buffer.from(bytes)]));
  }

  /** What came on a stream, as text. */
  textOf(stream: number): string {
    return this.received.flatMap((data) => (data[0] === stream ? [data.subarray(1).toString()] : [])).join("");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.close();
    await once(this.#http, "close");
  }
}

describe("streams through the API server", () => {
  let cli: TestCli;
  let streams: FakeStreams;
  let screen: Screen;
  beforeEach(async () => {
    cli = await TestCli.start();
    streams = await new FakeStreams().start();
    cli.api.upgradesGoTo(streams.port);
    screen = new Screen();
    cli.api.write("virtualmachines", machine());
    cli.api.write("pods", launcherPod());
  });
  afterEach(async () => {
    await streams[Symbol.asyncDispose]();
    await cli[Symbol.asyncDispose]();
  });

  const start = (args: string[], terminal?: { columns: number; rows: number }) =>
    run(args, screen.environment({ KUBECONFIG: cli.kubeconfig }, terminal));
  const succeed = () => streams.send(3, '{"status":"Success"}');

  describe("console", () => {
    it("runs the launcher's console command with a terminal of our size, and passes bytes both ways", async () => {
      const ended = start(["console", "web", "--port", "virtio", "--read-only", "--no-history"], {
        columns: 80,
        rows: 24,
      });
      await until(() => streams.textOf(4) !== "");
      const url = new URL(streams.url, "http://x");
      expect(url.pathname).toBe("/api/v1/namespaces/team-a/pods/vm-web/exec");
      expect(url.searchParams.getAll("command")).toEqual([
        "console",
        "--port",
        "virtio",
        "--read-only",
        "--no-history",
      ]);
      expect(url.searchParams.get("container")).toBe("launcher");
      expect(url.searchParams.get("tty")).toBe("true");
      expect(JSON.parse(streams.textOf(4))).toEqual({ Width: 80, Height: 24 });
      streams.send(1, "login: ");
      await until(() => screen.stdout === "login: ");
      expect(screen.isRaw).toBe(true);
      screen.input.write("root\r");
      await until(() => streams.textOf(0) === "root\r");
      succeed();
      expect(await ended).toBe(exitCodes.ok);
      expect(screen.isRaw).toBe(false);
    });

    it("asks for no terminal where there is none, and half-closes when input ends", async () => {
      const ended = start(["console", "web"]);
      await until(() => streams.socket !== undefined);
      expect(new URL(streams.url, "http://x").searchParams.get("tty")).toBe("false");
      screen.input.end("\u001d not a detach here");
      await until(() => streams.received.some((data) => data[0] === 255));
      expect(streams.textOf(0)).toBe("\u001d not a detach here");
      streams.send(2, "console: the machine has ended\n");
      succeed();
      expect(await ended).toBe(exitCodes.ok);
      expect(screen.stderr).toContain("the machine has ended");
    });

    it("Ctrl-] detaches even where the other side is silent, and sends nothing behind it", async () => {
      const ended = start(["console", "web"], { columns: 80, rows: 24 });
      await until(() => streams.socket !== undefined);
      screen.input.write("ab\u001dcd");
      expect(await ended).toBe(exitCodes.ok);
      expect(streams.textOf(0)).toBe("ab\u001d");
    });

    it("ends with the command's exit code", async () => {
      const ended = start(["console", "web"]);
      await until(() => streams.socket !== undefined);
      const causes = [{ reason: "ExitCode", message: "1" }];
      streams.send(3, JSON.stringify({ status: "Failure", reason: "NonZeroExitCode", details: { causes } }));
      expect(await ended).toBe(1);
    });

    it("says so when the connection breaks", async () => {
      const ended = start(["console", "web"]);
      await until(() => streams.socket !== undefined);
      streams.socket?.terminate();
      expect(await ended).toBe(exitCodes.failed);
      expect(screen.stderr).toContain("closed before the command ended");
    });

    it("says how the machine stands where it does not run", async () => {
      cli.api.erase("pods", "team-a", "vm-web");
      expect(await start(["console", "web"])).toBe(exitCodes.notFound);
      expect(screen.stderr).toContain("web does not run now");
    });
  });

  it("tells what the API server says instead of a stream", async () => {
    cli.api.upgradesGoTo(undefined);
    cli.api.intercept = ({ subresource }) =>
      subresource === "exec"
        ? { kind: "answer", status: { code: 403, reason: "Forbidden", message: "cannot create pods/exec" } }
        : undefined;
    expect(await start(["console", "web"])).toBe(exitCodes.forbidden);
    expect(screen.stderr).toContain("cannot create pods/exec");
  });

  describe("port-forward", () => {
    const portBytes = Buffer.from([0x16, 0x00]);

    it("joins a local port to the pod's, and goes on until interrupted", async () => {
      const ended = start(["port-forward", "web", ":22"]);
      await until(() => /:(\d+) to web:22/.test(screen.stdout));
      const client = connect(Number(/:(\d+) to/.exec(screen.stdout)?.[1]), "127.0.0.1");
      let seen = "";
      client.on("data", (bytes) => {
        seen += bytes;
      });
      await until(() => streams.socket !== undefined);
      expect(streams.url).toBe("/api/v1/namespaces/team-a/pods/vm-web/portforward?ports=22");
      streams.send(0, portBytes);
      streams.send(1, portBytes);
      streams.send(0, "SSH-2.0\r\n");
      await until(() => seen === "SSH-2.0\r\n");
      client.write("hello");
      await until(() => streams.textOf(0) === "hello");
      client.destroy();
      screen.interrupt.abort();
      expect(await ended).toBe(exitCodes.ok);
    });

    it("tells why a connection failed, and goes on", async () => {
      const ended = start(["port-forward", "web", ":22"]);
      await until(() => /:(\d+) to web:22/.test(screen.stdout));
      const client = connect(Number(/:(\d+) to/.exec(screen.stdout)?.[1]), "127.0.0.1");
      client.on("error", () => undefined);
      await until(() => streams.socket !== undefined);
      streams.send(1, portBytes);
      streams.send(1, "connection refused");
      await until(() => screen.stderr.includes("connection refused"));
      screen.interrupt.abort();
      expect(await ended).toBe(exitCodes.ok);
    });

    it("--stdio ends with the other side", async () => {
      const ended = start(["port-forward", "--stdio", "web", "22"]);
      await until(() => streams.socket !== undefined);
      screen.input.write("ping");
      await until(() => streams.textOf(0) === "ping");
      streams.send(0, portBytes);
      streams.send(0, "pong");
      await until(() => screen.stdout === "pong");
      streams.socket?.close();
      expect(await ended).toBe(exitCodes.ok);
    });
  });
});
