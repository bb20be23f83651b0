import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { NetworkError, NetworkNotReady } from "../net/network-link.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { DiskError, DiskNotReady } from "../storage/disk-error.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { UnknownDisk } from "../virtio/block/disks.ts";
import { UnknownInterface } from "../virtio/net/interfaces.ts";
import { GuestConsole } from "./console/guest-console.ts";
import { closeServer } from "./http-limits.ts";
import { LauncherApi } from "./launcher-api.ts";
import { FakeMachine } from "./testing/fake-machine.ts";
import { listenOnUnixSocket } from "./unix-listener.ts";

let directory = "";
let socketPath = "";
let server: Server;
let machine: FakeMachine;
let guestConsole: GuestConsole;
let api: LauncherApi;
let logged: ReturnType<typeof recordingLog>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "launcher-api-"));
  socketPath = join(directory, "control.sock");
  machine = new FakeMachine();
  guestConsole = new GuestConsole(1024);
  logged = recordingLog();
  api = new LauncherApi({ machine, console: guestConsole, log: logged.log });
  server = await listenOnUnixSocket(api, socketPath);
});

afterEach(async () => {
  guestConsole.close();
  await closeServer(server, 0);
  rmSync(directory, { recursive: true });
});

interface Reply {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: { readonly [name: string]: unknown; readonly error?: { code: string; message: string } };
}

function start(method: string, path: string, body?: string): ClientRequest {
  const call = request({ socketPath, method, path, agent: false });
  call.end(body);
  return call;
}

async function ask(method: string, path: string, body?: string): Promise<Reply> {
  const [response] = (await once(start(method, path, body), "response")) as [IncomingMessage];
  return { status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(await text(response)) };
}

describe("the Launcher API", () => {
  it("tells the status", async () => {
    const { status, headers, body } = await ask("GET", "/v1/status");
    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("application/json");
    expect(body).toEqual(machine.status());
  });

  it.each([
    ["/v1/pause", "pause", "Paused"],
    ["/v1/resume", "resume", "Running"],
    ["/v1/power-button", "powerButton", "Running"],
    ["/v1/reset", "reset", "Running"],
  ])("POST %s acts and answers with the new status", async (path, call, state) => {
    const { status, body } = await ask("POST", path);
    expect([status, body["state"], machine.calls]).toEqual([200, state, [call]]);
  });

  it("accepts a stop and does not wait for its end", async () => {
    const { status, body } = await ask("POST", "/v1/stop", '{"timeoutMs": 5000}');
    expect([status, body["state"], machine.calls]).toEqual([202, "Stopping", ["stop 5000"]]);
  });

  it("grows a disk", async () => {
    const { status, body } = await ask("POST", "/v1/disks/data-1/resize", '{"sizeBytes": 1073741824}');
    expect([status, body["state"], machine.calls]).toEqual([200, "Running", ["growDisk data-1 1073741824"]]);
    expect([...api.requests]).toEqual([["POST /v1/disks/NAME/resize 200", 1]]);
  });

  it("limits an overlay", async () => {
    const { status, body } = await ask("POST", "/v1/disks/root/overlay-limit", '{"bytes": 1073741825}');
    expect([status, body["state"], machine.calls]).toEqual([200, "Running", ["limitOverlay root 1073741825"]]);
    expect([...api.requests]).toEqual([["POST /v1/disks/NAME/overlay-limit 200", 1]]);
  });

  it("changes an interface's link, to up or down and nothing else", async () => {
    const { status } = await ask("POST", "/v1/interfaces/net-1/link", '{"state": "down"}');
    expect([status, machine.calls]).toEqual([200, ["setLink net-1 down"]]);
    const refused = await ask("POST", "/v1/interfaces/net-1/link", '{"state": "off"}');
    expect([refused.status, refused.body.error?.message]).toEqual([400, "state is up or down"]);
    machine.failure = new UnknownInterface("net-1", ["default"]);
    const unknown = await ask("POST", "/v1/interfaces/net-1/link", '{"state": "up"}');
    expect([unknown.status, unknown.body.error?.message]).toEqual([
      404,
      "there is no interface net-1; known are default",
    ]);
    expect([...api.requests.keys()]).toContain("POST /v1/interfaces/NAME/link 200");
  });

  it("adds an interface and takes it away, and says why it is not added", async () => {
    const attachment = { kind: "multus", podInterface: "tv0123456789" };
    const nic = { name: "storage", mac: "02:5a:00:12:34:56", queues: 1, link: "up", attachment, dataPath: "auto" };
    const added = await ask("POST", "/v1/interfaces", JSON.stringify(nic));
    const removed = await ask("DELETE", "/v1/interfaces/storage");
    expect([added.status, removed.status]).toEqual([200, 202]);
    expect(machine.calls).toEqual(["attachInterface storage multus", "detachInterface storage"]);
    expect([...api.requests.keys()]).toEqual(["POST /v1/interfaces 200", "DELETE /v1/interfaces/NAME 202"]);
    const bad = await ask("POST", "/v1/interfaces", JSON.stringify({ ...nic, queues: 9 }));
    expect([bad.status, bad.body.error?.message]).toEqual([400, "queues is 9; give a whole number from 1 to 8"]);
    const refusals = [
      [new NetworkNotReady("storage", "the pod has no such network"), "NotReady"],
      [new NetworkError("storage", "another has its name"), "Conflict"],
    ] as const;
    for (const [failure, code] of refusals) {
      machine.failure = failure;
      const { status, body } = await ask("POST", "/v1/interfaces", JSON.stringify(nic));
      expect([status, body.error?.code]).toEqual([409, code]);
    }
  });

  it("adds a disk and takes it away", async () => {
    const disk = {
      name: "data",
      readOnly: false,
      queues: 1,
      source: { kind: "attachment", podUid: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11" },
    };
    const added = await ask("POST", "/v1/disks", JSON.stringify(disk));
    const removed = await ask("DELETE", "/v1/disks/data");
    expect([added.status, removed.status]).toEqual([200, 202]);
    expect(machine.calls).toEqual(["attachDisk data attachment", "detachDisk data"]);
    expect([...api.requests.keys()]).toEqual(["POST /v1/disks 200", "DELETE /v1/disks/NAME 202"]);
  });

  it("says why a disk is not added, and whether it is worth to ask again", async () => {
    const disk = { name: "data", readOnly: false, queues: 1, source: { kind: "raw", path: "/dev/data" } };
    const refusalFor = async (failure: Error) => {
      machine.failure = failure;
      const { status, body } = await ask("POST", "/v1/disks", JSON.stringify(disk));
      return [status, body.error?.code];
    };
    expect(await refusalFor(new DiskError("data", "is in use"))).toEqual([409, "Conflict"]);
    expect(await refusalFor(new PciSpaceError("the bus is full"))).toEqual([409, "Conflict"]);
    expect(await refusalFor(new DiskNotReady("data", "is not offered"))).toEqual([409, "NotReady"]);
    machine.failure = undefined;
    const bad = await ask(
      "POST",
      "/v1/disks",
      JSON.stringify({ ...disk, source: { kind: "attachment", podUid: "x" } }),
    );
    expect([bad.status, bad.body.error?.message]).toEqual([400, 'source.podUid is "x"; give the UID of a pod']);
    expect(logged.lines).toEqual([]);
  });

  it("says why a disk does not grow", async () => {
    machine.failure = new UnknownDisk("data", ["root"]);
    const unknown = await ask("POST", "/v1/disks/data/resize", '{"sizeBytes": 512}');
    expect([unknown.status, unknown.body.error?.message]).toEqual([404, "there is no disk data; known are root"]);
    machine.failure = new DiskError("root", "does not shrink");
    const refused = await ask("POST", "/v1/disks/root/resize", '{"sizeBytes": 512}');
    expect([refused.status, refused.body.error?.message]).toEqual([409, "disk root: does not shrink"]);
    expect(logged.lines).toEqual([]);
  });

  it("answers Conflict to what the machine's state does not allow", async () => {
    machine.state = "Starting";
    const { status, body } = await ask("POST", "/v1/pause");
    expect(status).toBe(409);
    expect(body.error).toEqual({ code: "Conflict", message: "cannot pause a machine that is Starting" });
  });

  it("answers Internal to a defect, and only its log says what it was", async () => {
    machine.failure = new Error("secret of the house");
    const { status, body } = await ask("POST", "/v1/reset");
    expect([status, body.error?.code]).toEqual([500, "Internal"]);
    expect(JSON.stringify(body)).not.toContain("secret");
    expect(logged.lines).toMatchObject([{ level: "error", error: "secret of the house" }]);
  });

  it.each<[method: string, path: string, body: string | undefined, status: number, code: string, says: RegExp]>([
    ["GET", "/", undefined, 404, "NotFound", /known are \/v1\/status/],
    ["GET", "/v2/status", undefined, 404, "NotFound", /no such route/],
    ["POST", "/v1/status", undefined, 405, "MethodNotAllowed", /takes GET only/],
    ["GET", "/v1/pause", undefined, 405, "MethodNotAllowed", /takes POST only/],
    ["GET", "/v1/status?state=Running", undefined, 400, "BadRequest", /parameter state is unknown here/],
    ["GET", "/v1/status?waitFor=Gone", undefined, 400, "BadRequest", /waitFor takes Starting,/],
    ["GET", "/v1/status?waitFor=", undefined, 400, "BadRequest", /waitFor takes Starting,/],
    ["GET", "/v1/status?timeoutMs=1", undefined, 400, "BadRequest", /goes with waitFor/],
    ["GET", "/v1/status?waitFor=Ended&timeoutMs=-1", undefined, 400, "BadRequest", /timeoutMs must be/],
    ["GET", "/v1/status?waitFor=Ended&waitFor=Paused", undefined, 400, "BadRequest", /given twice/],
    ["POST", "/v1/stop", undefined, 400, "BadRequest", /timeoutMs must be/],
    ["POST", "/v1/stop", '{"timeoutMs": 1e12}', 400, "BadRequest", /timeoutMs must be/],
    ["POST", "/v1/stop", '{"timeoutMs": 1, "force": true}', 400, "BadRequest", /unknown member/],
    ["GET", "/v1/disks/data/resize", undefined, 405, "MethodNotAllowed", /takes POST only/],
    ["POST", "/v1/disks/data", undefined, 405, "MethodNotAllowed", /takes DELETE only/],
    ["DELETE", "/v1/disks/data?force=1", undefined, 400, "BadRequest", /unknown here/],
    ["POST", "/v1/interfaces", undefined, 400, "BadRequest", /^mac is missing|^name is missing/],
    ["POST", "/v1/interfaces/storage", undefined, 405, "MethodNotAllowed", /takes DELETE only/],
    ["DELETE", "/v1/interfaces/storage?force=1", undefined, 400, "BadRequest", /unknown here/],
    ["DELETE", "/v1/disks/Data", undefined, 404, "NotFound", /no such route/],
    ["DELETE", "/v1/disks", undefined, 405, "MethodNotAllowed", /takes POST only/],
    ["POST", "/v1/disks", undefined, 400, "BadRequest", /^name is missing/],
    ["POST", "/v1/disks", '{"name": "data"}', 400, "BadRequest", /^readOnly is missing/],
    ["POST", "/v1/disks?force=1", undefined, 400, "BadRequest", /unknown here/],
    ["POST", "/v1/disks/Data/resize", '{"sizeBytes": 512}', 404, "NotFound", /no such route/],
    ["POST", "/v1/disks/data/resize", undefined, 400, "BadRequest", /sizeBytes must be a multiple of 512/],
    ["POST", "/v1/disks/data/resize", '{"sizeBytes": 1000}', 400, "BadRequest", /sizeBytes must be/],
    ["POST", "/v1/disks/data/resize", '{"sizeBytes": 0}', 400, "BadRequest", /sizeBytes must be/],
    ["POST", "/v1/disks/data/resize", '{"sizeBytes": "512"}', 400, "BadRequest", /sizeBytes must be/],
    ["POST", "/v1/disks/data/resize", '{"sizeBytes": 1e300}', 400, "BadRequest", /sizeBytes must be/],
    [
      "POST",
      "/v1/disks/data/overlay-limit",
      '{"bytes": 1048575}',
      400,
      "BadRequest",
      /bytes must be an integer from 1048576/,
    ],
    ["POST", "/v1/disks/data/overlay-limit", '{"bytes": 1048576.5}', 400, "BadRequest", /bytes must be an integer/],
    ["POST", "/v1/disks/data/overlay-limit", '{"bytes": "2097152"}', 400, "BadRequest", /bytes must be an integer/],
    ["POST", "/v1/disks/data/overlay-limit", '{"sizeBytes": 2097152}', 400, "BadRequest", /known are: bytes/],
    ["POST", "/v1/disks/data/resize?force=1", '{"sizeBytes": 512}', 400, "BadRequest", /unknown here/],
    ["POST", "/v1/stop", "[]", 400, "BadRequest", /not a JSON object/],
    ["POST", "/v1/stop", "{", 400, "BadRequest", /not a JSON object/],
    ["POST", "/v1/pause", '{"a": 1}', 400, "BadRequest", /unknown member/],
    ["POST", "/v1/pause", "x".repeat(5000), 413, "BadRequest", /longer than 4096 bytes/],
    ["GET", "/v1/console", undefined, 426, "BadRequest", /needs the header Upgrade/],
  ])("refuses %s %s with body %.20s: %d %s", async (method, path, body, status, code, says) => {
    const reply = await ask(method, path, body);
    expect([reply.status, reply.body.error?.code]).toEqual([status, code]);
    expect(reply.body.error?.message).toMatch(says);
    expect(machine.calls).toEqual([]);
  });

  it("names the method that a route takes", async () => {
    expect((await ask("DELETE", "/v1/stop")).headers.allow).toBe("POST");
  });

  it("counts requests without keeping what clients made up", async () => {
    await ask("GET", "/v1/status");
    await ask("GET", "/v1/status?x=1");
    await ask("BREW", "/coffee").catch(() => {});
    await ask("GET", "/a");
    await ask("GET", "/b");
    expect(Object.fromEntries(api.requests)).toEqual({
      "GET /v1/status 200": 1,
      "GET /v1/status 400": 1,
      "GET other 404": 2,
    });
  });
});

describe("waiting for a state", () => {
  it("answers at once where the machine is there", async () => {
    expect((await ask("GET", "/v1/status?waitFor=Paused,Running")).body["state"]).toBe("Running");
  });

  it("answers once the machine gets there, and then listens no more", async () => {
    machine.state = "Starting";
    const reply = ask("GET", "/v1/status?waitFor=Running");
    await until(() => machine.listeners === 1);
    machine.moveTo("Running");
    expect((await reply).body["state"]).toBe("Running");
    expect(machine.listeners).toBe(0);
  });

  it("answers Timeout with the state that the machine is in", async () => {
    const { status, body } = await ask("GET", "/v1/status?waitFor=Paused&timeoutMs=1");
    expect(status).toBe(408);
    expect(body.error).toEqual({ code: "Timeout", message: "the machine is Running, not Paused, after 1 ms" });
    expect(machine.listeners).toBe(0);
  });

  it("does not wait for what cannot come any more", async () => {
    const reply = ask("GET", "/v1/status?waitFor=Paused");
    await until(() => machine.listeners === 1);
    machine.end("GuestPowerOff", "the guest powered off");
    expect((await reply).body.error).toEqual({
      code: "Conflict",
      message: "the machine has ended: the guest powered off",
    });
  });

  it("forgets a client that has gone", async () => {
    const call = start("GET", "/v1/status?waitFor=Paused");
    call.on("error", () => {});
    await until(() => machine.listeners === 1);
    call.destroy();
    await until(() => machine.listeners === 0);
  });
});

describe("the console route", () => {
  const recordingDevice = () => {
    const device = { typed: "" };
    guestConsole.serial.connect({
      input: (bytes) => {
        device.typed += Buffer.from(bytes).toString();
        return bytes.length;
      },
      onDrain: () => {},
    });
    return device;
  };

  const upgrade = async (path: string, protocol = "typevisor-console") => {
    const call = request({
      socketPath,
      path,
      agent: false,
      headers: { Connection: "Upgrade", Upgrade: protocol },
    });
    call.end();
    const [event, response, socket, head] = await Promise.race([
      once(call, "upgrade").then((args) => ["upgrade", ...args]),
      once(call, "response").then((args) => ["response", ...args]),
    ]);
    if (event === "upgrade") (socket as Socket).unshift(head);
    return { event, response: response as IncomingMessage, socket: socket as Socket };
  };

  it("carries bytes both ways", async () => {
    const device = recordingDevice();
    guestConsole.serial.output(Buffer.from("login: "));
    const { response, socket } = await upgrade("/v1/console?access=write&history=true");
    expect(response.statusCode).toBe(101);
    expect(String((await once(socket, "data"))[0])).toBe("login: ");
    socket.write("root\r");
    await until(() => device.typed === "root\r");
    socket.destroy();
    await until(() => guestConsole.attached === 0);
  });

  it("reads only, without history, where nothing else is asked", async () => {
    const device = recordingDevice();
    guestConsole.serial.output(Buffer.from("before"));
    const { socket } = await upgrade("/v1/console");
    socket.write("rm -rf /\r");
    guestConsole.serial.output(Buffer.from("after"));
    expect(String((await once(socket, "data"))[0])).toBe("after");
    expect(device.typed).toBe("");
    socket.destroy();
  });

  it("takes input that came together with the request", async () => {
    const device = recordingDevice();
    const socket = connect(socketPath);
    socket.write(
      "GET /v1/console?access=write HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: typevisor-console\r\n\r\nls\r",
    );
    await until(() => device.typed === "ls\r");
    socket.destroy();
  });

  it.each([
    ["/v1/console?access=all", "typevisor-console", 400],
    ["/v1/console?history=1", "typevisor-console", 400],
    ["/v1/console?port=ttyS0", "typevisor-console", 400],
    ["/v1/console?mode=raw", "typevisor-console", 400],
    ["/v1/console", "websocket", 400],
    ["/v1/status", "typevisor-console", 400],
    ["/v1/nothing", "typevisor-console", 404],
  ])("refuses %s to %s", async (path, protocol, status) => {
    const { event, response } = await upgrade(path, protocol);
    expect([event, response.statusCode]).toEqual(["response", status]);
    expect(JSON.parse(await text(response)).error.message).toEqual(expect.any(String));
    expect(guestConsole.attached).toBe(0);
  });

  it("answers Conflict to one console too many", async () => {
    const sockets = await Promise.all(Array.from({ length: 16 }, () => upgrade("/v1/console")));
    const { event, response } = await upgrade("/v1/console");
    expect([event, response.statusCode]).toEqual(["response", 409]);
    response.resume();
    for (const { socket } of sockets) socket.destroy();
  });
});

describe("the unix socket", () => {
  it("is for its owner only", () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    expect(existsSync(`${socketPath}~`)).toBe(false);
  });

  it("takes the place of what a killed launcher left", async () => {
    const path = join(directory, "stale.sock");
    writeFileSync(path, "");
    writeFileSync(`${path}~`, "");
    const second = await listenOnUnixSocket(api, path);
    expect(statSync(path).isSocket()).toBe(true);
    await closeServer(second, 0);
  });

  it("survives any bytes, and answers the next client", async () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc
        .tuple(fc.constantFrom("GET", "POST", "CONNECT", "PRI"), fc.webPath(), fc.string({ maxLength: 60 }))
        .map(([method, path, rest]) => Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: x\r\n${rest}\r\n\r\n`)),
      fc.constant(Buffer.from(`GET /v1/status HTTP/1.1\r\nX: ${"y".repeat(9000)}\r\n\r\n`)),
      fc.constant(Buffer.from("POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{")),
      fc.constant(Buffer.from("POST /v1/stop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\n")),
    );
    await fc.assert(
      fc.asyncProperty(noise, async (bytes) => {
        const socket = connect(socketPath);
        socket.on("error", () => {});
        socket.resume();
        await new Promise((sent) => socket.end(bytes, () => sent(undefined)));
        socket.destroy();
      }),
      { numRuns: 150 },
    );
    expect((await ask("GET", "/v1/status")).status).toBe(200);
    expect(machine.calls).toEqual([]);
  });

  it("refuses connections beyond its limit and recovers", async () => {
    const sockets = Array.from({ length: 70 }, () => connect(socketPath).on("error", () => {}));
    await until(() => sockets.filter((socket) => socket.destroyed || socket.readableEnded).length >= 6);
    for (const socket of sockets) socket.destroy();
    await until(async () => (await ask("GET", "/v1/status").catch(() => undefined))?.status === 200);
  });
});
