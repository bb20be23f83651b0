import { once } from "node:events";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { InterfaceConfig } from "../../../launcher/api/machine-config.ts";
import { rotateAuthority, trustBundle } from "../certificates/authority-state.ts";
import { machineCommonName, machineServerName, OPERATOR_COMMON_NAME } from "../certificates/identities.ts";
import { issueCertificate } from "../certificates/x509.ts";
import { LauncherClient, parseAnswer } from "./launcher-client.ts";

const UID = "0f9a6c1e-0000-4000-8000-000000000001";
const LIFE_MS = 3_600_000;
const status = {
  apiVersion: 1,
  launcherVersion: "1",
  state: "Running",
  reason: "Running",
  message: "",
  startedAt: null,
};

const storage: InterfaceConfig = {
  name: "storage",
  mac: "02:aa:bb:cc:dd:ee",
  queues: 1,
  link: "up",
  attachment: { kind: "multus", podInterface: "tv0123456789" },
  dataPath: "auto",
};

describe("LauncherClient", () => {
  let server: https.Server;
  let answer: { code: number; body: string };
  let requests: string[];
  let client: LauncherClient;
  const target = { ip: "127.0.0.1", uid: UID };

  beforeEach(async () => {
    const authority = await rotateAuthority(undefined, Date.now());
    const other = await rotateAuthority(undefined, Date.now());
    // Launchers trust more than one authority during a rotation.
    const trust = trustBundle({ ...authority, previous: other.current.certificate });
    const machine = await issueCertificate(
      authority.current,
      { commonName: machineCommonName(UID), dnsNames: [machineServerName(UID)], usages: ["server"] },
      Date.now(),
      LIFE_MS,
    );
    const operator = { commonName: OPERATOR_COMMON_NAME, dnsNames: [], usages: ["client"] } as const;
    const own = await issueCertificate(authority.current, operator, Date.now(), LIFE_MS);
    answer = { code: 200, body: JSON.stringify(status) };
    requests = [];
    server = https.createServer(
      { cert: machine.certificate, key: machine.key, ca: trust, requestCert: true, rejectUnauthorized: true },
      (request, response) => {
        requests.push(`${request.method} ${request.url}`);
        request.on("data", (bytes: Buffer) => requests.push(bytes.toString()));
        request.on("end", () => response.writeHead(answer.code).end(answer.body));
      },
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const port = (server.address() as AddressInfo).port;
    client = new LauncherClient({ port, credentials: async () => ({ ...own, trust }) });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it("speaks to the machine that it means, with both ends proven", async () => {
    expect((await client.status(target)).state).toBe("Running");
    await client.waitFor(target, ["Running", "Paused"], 1_000);
    await client.pause(target);
    await client.resume(target);
    await client.resizeDisk(target, "data", 1024);
    await client.limitOverlay(target, "root", 2 ** 30);
    const source = { kind: "attachment", podUid: UID } as const;
    await client.attachDisk(target, { name: "data", readOnly: false, queues: 1, source });
    await client.detachDisk(target, "data");
    await client.setLink(target, "default", "down");
    await client.attachInterface(target, storage);
    await client.detachInterface(target, "storage");
    expect(requests).toEqual([
      "GET /v1/status",
      "GET /v1/status?waitFor=Running,Paused&timeoutMs=1000",
      "POST /v1/pause",
      "POST /v1/resume",
      "POST /v1/disks/data/resize",
      '{"sizeBytes":1024}',
      "POST /v1/disks/root/overlay-limit",
      '{"bytes":1073741824}',
      "POST /v1/disks",
      `{"name":"data","readOnly":false,"queues":1,"source":{"kind":"attachment","podUid":"${UID}"}}`,
      "DELETE /v1/disks/data",
      "POST /v1/interfaces/default/link",
      '{"state":"down"}',
      "POST /v1/interfaces",
      JSON.stringify(storage),
      "DELETE /v1/interfaces/storage",
    ]);
  });

  it("takes a disk or an interface that is gone already for one that was given up", async () => {
    answer = { code: 404, body: '{"error":{"code":"NotFound","message":"there is none"}}' };
    await expect(client.detachDisk(target, "data")).rejects.toMatchObject({ code: "NotFound" });
    await expect(client.detachInterface(target, "storage")).rejects.toMatchObject({ code: "NotFound" });
    expect(requests).toEqual([
      "DELETE /v1/disks/data",
      "GET /v1/status",
      "DELETE /v1/interfaces/storage",
      "GET /v1/status",
    ]);
  });

  it("believes of an interface's state what it knows", () => {
    const nic = { name: "storage", mac: "02:aa:bb:cc:dd:ee", link: "up", addresses: [] };
    const statesOf = (...interfaces: object[]) =>
      parseAnswer(200, JSON.stringify({ apiVersion: 1, state: "Running", interfaces })).interfaces?.map(
        ({ state }) => state,
      );
    expect(statesOf({ ...nic, state: "Detaching" }, { ...nic, state: "Gone" }, nic)).toEqual([
      "Detaching",
      undefined,
      undefined,
    ]);
  });

  it("believes of a disk's state what it knows", () => {
    const disks = ["Attaching", "Attached", "Detaching", "Exploding", undefined].map((state, i) => ({
      name: `d${i}`,
      sizeBytes: 512,
      readOnly: false,
      state,
    }));
    const seen = parseAnswer(200, JSON.stringify({ ...status, disks })).disks?.map(({ state }) => state);
    expect(seen).toEqual(["Attaching", "Attached", "Detaching", undefined, undefined]);
  });

  it("refuses another machine that has the address now", async () => {
    await expect(client.status({ ...target, uid: "another" })).rejects.toThrow(/another\.machine\.typevisor\.internal/);
    expect(requests).toEqual([]);
  });

  it("refuses a server of an authority that it does not trust", async () => {
    const { current } = await rotateAuthority(undefined, Date.now());
    const port = (server.address() as AddressInfo).port;
    const stranger = new LauncherClient({
      port,
      credentials: async () => ({ ...current, trust: current.certificate }),
    });
    await expect(stranger.status(target)).rejects.toMatchObject({ statusCode: 0, code: "Unreachable" });
  });

  it("passes a launcher's errors on by their code", async () => {
    answer = { code: 409, body: '{"error":{"code":"Conflict","message":"the machine has ended"}}' };
    await expect(client.pause(target)).rejects.toMatchObject({ code: "Conflict", message: "the machine has ended" });
    answer = { code: 408, body: '{"error":{"code":"Timeout","message":"not yet"}}' };
    await expect(client.waitFor(target, ["Running"], 10)).rejects.toMatchObject({ isTimeout: true });
  });

  it("refuses an answer that is far too long", async () => {
    answer = { code: 200, body: `{"x":"${"y".repeat(2_000_000)}"}` };
    await expect(client.status(target)).rejects.toThrow(/longer than/);
  });

  it("says so when nobody answers", async () => {
    server.closeAllConnections();
    server.close();
    await expect(client.status(target)).rejects.toMatchObject({ statusCode: 0, code: "Unreachable" });
  });
});

describe("parseAnswer", () => {
  it.each([
    ["nothing", ""],
    ["no JSON", "<html>"],
    ["null", "null"],
    ["a state that does not exist", JSON.stringify({ ...status, state: "Flying" })],
    ["another version", JSON.stringify({ ...status, apiVersion: 2 })],
  ])("refuses %s", (_, body) => {
    expect(() => parseAnswer(200, body)).toThrow(/something else than a status/);
  });

  it("takes over why a machine is paused, and how large its disks are", () => {
    const pause = { asked: false, storageFull: ["data"] };
    const overlay = { usedBytes: 4096, limitBytes: 1 << 20, isFull: true };
    const disks = [
      { name: "data", sizeBytes: 1024, readOnly: true },
      { name: "root", sizeBytes: 1024, readOnly: false, overlay },
      { name: "base", sizeBytes: 1024, readOnly: false, overlay: { usedBytes: 0, isFull: false } },
    ];
    expect(parseAnswer(200, JSON.stringify({ ...status, pause, disks }))).toMatchObject({ pause, disks });
    const odd = {
      pause: { asked: 1, storageFull: [7, "data"] },
      disks: [null, { name: 7 }, { name: "a", sizeBytes: -1, overlay: { usedBytes: "x", isFull: 1 } }],
    };
    expect(parseAnswer(200, JSON.stringify({ ...status, ...odd }))).toMatchObject({
      pause: { asked: false, storageFull: ["data"] },
      disks: [{ name: "a", sizeBytes: 0, readOnly: false, overlay: { usedBytes: 0, isFull: false } }],
    });
    const none = parseAnswer(200, JSON.stringify({ ...status, pause: "no", disks: {} }));
    expect([none.pause, none.disks]).toEqual([undefined, undefined]);
  });

  it("takes over why it cannot move its machine, and what its guest's processors have, as far as they are that", () => {
    const said = { cannotMove: ["disk root is its own", 7, "x".repeat(1000)], cpuFeatures: "GenuineIntel 1/0/ecx:1" };
    expect(parseAnswer(200, JSON.stringify({ ...status, ...said }))).toMatchObject({
      cannotMove: ["disk root is its own", "x".repeat(500)],
      cpuFeatures: "GenuineIntel 1/0/ecx:1",
    });
    const odd = parseAnswer(200, JSON.stringify({ ...status, cannotMove: "no", cpuFeatures: "<script>" }));
    expect([odd.cannotMove, odd.cpuFeatures]).toEqual([undefined, undefined]);
    expect(parseAnswer(200, JSON.stringify({ ...status, cannotMove: [] })).cannotMove).toEqual([]);
  });

  it("takes over what its interfaces are, and no address that is none", () => {
    const good = {
      name: "default",
      mac: "02:00:00:00:00:05",
      link: "down",
      mtuBytes: 9000,
      queues: 4,
      dataPath: "vhost-net",
      addresses: ["10.0.2.2", "fd10:0:2::2"],
    };
    const odd = [
      null,
      { ...good, mac: "no" },
      { ...good, name: "b", link: 7, dataPath: 7, addresses: ["x", 7, "::1"] },
    ];
    const { interfaces } = parseAnswer(200, JSON.stringify({ ...status, interfaces: [good, ...odd] }));
    expect(interfaces).toEqual([good, { ...good, name: "b", link: "up", dataPath: "inProcess", addresses: ["::1"] }]);
  });

  it("takes nothing over that is not what it must be", () => {
    const odd = { ...status, startedAt: "yesterday", reboots: -1, message: "x".repeat(5_000), launcherVersion: 7 };
    expect(parseAnswer(200, JSON.stringify(odd))).toMatchObject({
      startedAt: null,
      reboots: 0,
      message: "x".repeat(1_024),
      launcherVersion: "",
    });
  });
});
