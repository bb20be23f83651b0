import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { type RequestOptions, request } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { SecretDirectory, TestAuthority } from "../testing/certificates.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { GuestConsole } from "./console/guest-console.ts";
import { closeServer } from "./http-limits.ts";
import { type HttpsListener, listenOnHttps } from "./https-listener.ts";
import { LauncherApi } from "./launcher-api.ts";
import { FakeMachine } from "./testing/fake-machine.ts";

let directory = "";
let secret: SecretDirectory;
let authority: TestAuthority;
let listener: HttpsListener;
let guestConsole: GuestConsole;
let logged: ReturnType<typeof recordingLog>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "https-"));
  secret = new SecretDirectory(join(directory, "secret"));
  authority = await TestAuthority.create();
  await install(authority);
  guestConsole = new GuestConsole(1024);
  logged = recordingLog();
  const api = new LauncherApi({ machine: new FakeMachine(), console: guestConsole, log: logged.log });
  const paths = { certPath: at("tls.crt"), keyPath: at("tls.key"), caPath: at("ca.crt") };
  const config = { address: "127.0.0.1", port: 0, ...paths, allowedClients: ["operator"] };
  listener = await listenOnHttps(api, config, logged.log);
});

afterEach(async () => {
  listener[Symbol.dispose]();
  await closeServer(listener.server, 0);
  rmSync(directory, { recursive: true });
});

const at = (name: string) => join(secret.path, name);

async function install(by: TestAuthority): Promise<void> {
  const { key, cert } = await by.issue("CN=vm");
  secret.write({ "tls.crt": cert, "tls.key": key, "ca.crt": by.certificate });
}

async function optionsOf(subject: string, by = authority): Promise<RequestOptions> {
  const { port } = listener.server.address() as AddressInfo;
  return { host: "127.0.0.1", port, ca: by.certificate, agent: false, ...(await by.issue(subject)) };
}

async function get(options: RequestOptions): Promise<{ status: number; body: { error?: { code: string } } }> {
  const call = request({ ...options, path: "/v1/status" });
  call.end();
  const [response] = (await once(call, "response")) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: JSON.parse(await text(response)) };
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "no error",
    (error: NodeJS.ErrnoException) => error.code,
  );

describe("the Launcher API over TLS", () => {
  it("answers a client that is let in", async () => {
    expect((await get(await optionsOf("CN=operator"))).status).toBe(200);
  });

  it.each(["CN=stranger", "CN=operator, CN=stranger", "O=operator"])("refuses the client %s", async (subject) => {
    const { status, body } = await get(await optionsOf(subject));
    expect([status, body.error?.code]).toEqual([403, "Forbidden"]);
  });

  it("lets nobody in without a certificate, or with one of another authority", async () => {
    const { cert: _cert, key: _key, ...anonymous } = await optionsOf("CN=operator");
    expect(await codeOf(get(anonymous))).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET/);
    const forged = await (await TestAuthority.create()).issue("CN=operator");
    expect(await codeOf(get({ ...anonymous, ...forged }))).toMatch(/ALERT|ECONNRESET/);
  });

  it("speaks no older TLS than 1.3", async () => {
    const options = await optionsOf("CN=operator");
    expect(await codeOf(get({ ...options, maxVersion: "TLSv1.2" }))).toMatch(/EPROTO|ECONNRESET/);
  });

  it("joins consoles, and refuses them to strangers", async () => {
    const upgrade = async (subject: string) => {
      const headers = { Connection: "Upgrade", Upgrade: "typevisor-console" };
      const call = request({ ...(await optionsOf(subject)), path: "/v1/console", headers });
      call.end();
      return call;
    };
    const [refused] = (await once(await upgrade("CN=stranger"), "response")) as [IncomingMessage];
    expect(refused.statusCode).toBe(403);
    refused.resume();
    const [, socket] = await once(await upgrade("CN=operator"), "upgrade");
    guestConsole.serial.output(Buffer.from("hello"));
    expect(String((await once(socket, "data"))[0])).toBe("hello");
    socket.destroy();
  });

  it("takes new certificates and a new authority from the files, and forgets the former", async () => {
    const former = await optionsOf("CN=operator");
    const next = await TestAuthority.create();
    await install(next);
    await until(() => logged.lines.some((line) => line["reason"] === "CertificatesChanged"));
    expect((await get(await optionsOf("CN=operator", next))).status).toBe(200);
    expect(await codeOf(get({ ...former, ca: next.certificate }))).not.toBe("no error");
  });

  it("keeps its certificates when the new ones are unusable, and says so", async () => {
    secret.write({ "tls.crt": "nonsense", "tls.key": "nonsense", "ca.crt": "nonsense" });
    await until(() => logged.lines.some((line) => line["reason"] === "CertificatesUnusable"));
    expect((await get(await optionsOf("CN=operator"))).status).toBe(200);
    await install(authority);
    await until(() => logged.lines.some((line) => line["reason"] === "CertificatesChanged"));
  });

  it("survives what is not TLS", async () => {
    const { port } = listener.server.address() as AddressInfo;
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.end("GET / HTTP/1.1\r\n\r\n");
    socket.resume();
    await new Promise((closed) => socket.once("close", closed));
    expect((await get(await optionsOf("CN=operator"))).status).toBe(200);
  });
});
