import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { GuestConsole } from "../../../launcher/src/control/console/guest-console.ts";
import { closeServer } from "../../../launcher/src/control/http-limits.ts";
import { type HttpsListener, listenOnHttps } from "../../../launcher/src/control/https-listener.ts";
import { LauncherApi } from "../../../launcher/src/control/launcher-api.ts";
import { FakeMachine } from "../../../launcher/src/control/testing/fake-machine.ts";
import { SecretDirectory } from "../../../launcher/src/testing/certificates.ts";
import { recordingLog } from "../../../launcher/src/testing/recording-log.ts";
import { LauncherClient } from "../launcher-client/launcher-client.ts";
import { Client } from "../runtime/client.ts";
import { plainConnection } from "../runtime/connection.ts";
import { FakeApiServer } from "../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../runtime/testing/recording-logger.ts";
import { until } from "../runtime/testing/until.ts";
import { Authority, type MachineCertificate } from "./authority.ts";
import { OPERATOR_COMMON_NAME } from "./identities.ts";
import { createAuthority, issueCertificate, validityOf } from "./x509.ts";

const UID = "0f9a6c1e-0000-4000-8000-000000000001";
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** TLS knows one clock, the machine's; so operators of the past live in the past. */
describe("an operator that comes back after", () => {
  let server: FakeApiServer;
  let directory: string;
  let secret: SecretDirectory;
  let logged: ReturnType<typeof recordingLog>;
  let listener: HttpsListener;

  const operatorAt = (nowMs: number) =>
    new Authority({
      client: new Client(plainConnection(server.url)),
      clock: new FakeClock(nowMs),
      logger: new RecordingLogger(),
      namespace: "system",
      secretName: "ca",
      onTrustChange: () => {},
    });
  /** As the kubelet does, a while after the operator has written the machine's Secret. */
  const mount = ({ certificate, key, trust }: MachineCertificate) =>
    secret.write({ "tls.crt": certificate, "tls.key": key, "ca.crt": trust });

  beforeEach(async () => {
    server = await FakeApiServer.start();
    directory = mkdtempSync(join(tmpdir(), "outage-"));
    secret = new SecretDirectory(join(directory, "secret"));
    logged = recordingLog();
  });
  afterEach(async () => {
    listener[Symbol.dispose]();
    await closeServer(listener.server, 0);
    rmSync(directory, { recursive: true });
    await server[Symbol.asyncDispose]();
  });

  const startLauncher = async () => {
    const at = (name: string) => join(secret.path, name);
    const paths = { certPath: at("tls.crt"), keyPath: at("tls.key"), caPath: at("ca.crt") };
    const api = new LauncherApi({ machine: new FakeMachine(), console: new GuestConsole(1024), log: logged.log });
    const config = { address: "127.0.0.1", port: 0, ...paths, allowedClients: [OPERATOR_COMMON_NAME] };
    listener = await listenOnHttps(api, config, logged.log);
  };

  it.each([
    ["a month, when the machine's certificate has ended", 40, /expired/],
    ["ten months, when the authority should have had a successor", 300, /expired/],
    ["a year and more, when the authority has ended", 400, /unable to verify|self.signed|unknown ca|expired/i],
  ])(
    "%s reaches a launcher that ran all the time, once the kubelet has brought it a new one",
    async (_, days, refused) => {
      {
        using before = operatorAt(Date.now() - days * DAY_MS);
        await before.start();
        mount(await before.issueForMachine(UID));
      }
      await startLauncher();
      using back = operatorAt(Date.now());
      await back.start();
      const port = (listener.server.address() as AddressInfo).port;
      const client = new LauncherClient({ port, credentials: () => back.operatorCredentials() });
      const target = { ip: "127.0.0.1", uid: UID };
      await expect(client.status(target)).rejects.toThrow(refused);
      mount(await back.issueForMachine(UID));
      await until(() => logged.lines.some((line) => line["reason"] === "CertificatesChanged"));
      expect((await client.status(target)).state).toBe("Running");
    },
  );
});

describe("a certificate", () => {
  /** What both ends of a connection say of certificates that were made by a clock which is ahead of theirs. */
  const met = async (aheadMs: number) => {
    const nowMs = Date.now() + aheadMs;
    const authority = await createAuthority("test-ca", nowMs, DAY_MS);
    const server = { commonName: "server", dnsNames: ["server.internal"], usages: ["server"] } as const;
    const shown = await issueCertificate(authority, server, nowMs, DAY_MS);
    const listening = createServer({ cert: shown.certificate, key: shown.key, minVersion: "TLSv1.3" });
    listening.listen(0, "127.0.0.1");
    await once(listening, "listening");
    const { port } = listening.address() as AddressInfo;
    const socket = connect({ host: "127.0.0.1", port, servername: "server.internal", ca: authority.certificate });
    const outcome = await once(socket, "secureConnect").then(
      () => "trusted",
      (error: NodeJS.ErrnoException) => error.code,
    );
    socket.destroy();
    listening.close();
    return outcome;
  };

  it("is good at once where clocks are behind by less than an hour, and not by more", async () => {
    expect(await met(0)).toBe("trusted");
    expect(await met(55 * MINUTE_MS)).toBe("trusted");
    expect(await met(65 * MINUTE_MS)).toMatch(/CERT_NOT_YET_VALID/);
    expect(await met(-DAY_MS - MINUTE_MS)).toMatch(/CERT_HAS_EXPIRED/);
  });

  it("lives for as long as was asked, though it begins earlier", async () => {
    const nowMs = Date.parse("2026-01-02T03:04:05Z");
    const authority = await createAuthority("test-ca", nowMs, DAY_MS);
    const hour = 60 * MINUTE_MS;
    const expected = { notBeforeMs: nowMs - hour, notAfterMs: nowMs + DAY_MS };
    expect(validityOf(authority.certificate)).toEqual(expected);
    const subject = { commonName: "machine", dnsNames: [], usages: ["client"] } as const;
    const issued = await issueCertificate(authority, subject, nowMs, DAY_MS);
    expect(validityOf(issued.certificate)).toEqual(expected);
  });
});
