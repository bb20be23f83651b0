import { X509Certificate } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Client } from "../runtime/client.ts";
import { plainConnection } from "../runtime/connection.ts";
import { FakeApiServer } from "../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../runtime/testing/recording-logger.ts";
import { until } from "../runtime/testing/until.ts";
import type { Secret } from "../runtime/wire.ts";
import { Authority } from "./authority.ts";
import { AUTHORITY_LIFE_MS, OVERLAP_MS, rotateAuthority, trustBundle, trustIdOf } from "./authority-state.ts";
import { validityOf } from "./x509.ts";

const DAY_MS = 24 * 3_600_000;
const NOW_MS = Date.parse("2026-01-02T03:04:05Z");

describe("rotateAuthority", () => {
  it("makes an authority where there is none, and leaves one alone that is young", async () => {
    const first = await rotateAuthority(undefined, NOW_MS);
    expect(new X509Certificate(first.current.certificate).ca).toBe(true);
    expect(await rotateAuthority(first, NOW_MS + 100 * DAY_MS)).toBe(first);
  });

  it("has the next one trusted for a day before it signs, and the previous one until it ends", async () => {
    const first = await rotateAuthority(undefined, NOW_MS);
    const due = NOW_MS + (AUTHORITY_LIFE_MS * 2) / 3 + DAY_MS;
    const overlapping = await rotateAuthority(first, due);
    expect(overlapping.current).toBe(first.current);
    expect(trustBundle(overlapping).match(/BEGIN CERTIFICATE/g)?.length).toBe(2);
    expect(await rotateAuthority(overlapping, due + OVERLAP_MS - 600_000)).toBe(overlapping);
    const promoted = await rotateAuthority(overlapping, due + OVERLAP_MS);
    expect(promoted).toEqual({ current: overlapping.next, previous: first.current.certificate });
    const alone = await rotateAuthority(promoted, validityOf(first.current.certificate).notAfterMs);
    expect(alone).toEqual({ current: overlapping.next });
    const ids = [first, overlapping, promoted, alone].map(trustIdOf);
    expect(new Set(ids).size).toBe(4);
  });

  it("starts over when an operator comes back after the authority has ended", async () => {
    const first = await rotateAuthority(undefined, NOW_MS);
    const anew = await rotateAuthority(first, NOW_MS + AUTHORITY_LIFE_MS);
    expect(anew.current.certificate).not.toBe(first.current.certificate);
    expect(trustBundle(anew)).toBe(`${anew.current.certificate.trim()}\n`);
  });

  it("goes on with the next one, which all trust, when the operator was away for the rest of the first one's life", async () => {
    const first = await rotateAuthority(undefined, NOW_MS);
    const overlapping = await rotateAuthority(first, NOW_MS + (AUTHORITY_LIFE_MS * 2) / 3 + DAY_MS);
    const back = await rotateAuthority(overlapping, NOW_MS + AUTHORITY_LIFE_MS + DAY_MS);
    expect(back).toEqual({ current: overlapping.next });
    // Away for longer than both live.
    const late = await rotateAuthority(overlapping, NOW_MS + 2 * AUTHORITY_LIFE_MS);
    expect(late.current.certificate).not.toBe(overlapping.next?.certificate);
    expect(validityOf(late.current.certificate).notAfterMs).toBeGreaterThan(NOW_MS + 2 * AUTHORITY_LIFE_MS);
  });
});

describe("Authority", () => {
  let server: FakeApiServer;
  let clock: FakeClock;
  let changes: number;
  const authority = () =>
    new Authority({
      client: new Client(plainConnection(server.url)),
      clock,
      logger: new RecordingLogger(),
      namespace: "system",
      secretName: "ca",
      onTrustChange: () => {
        changes += 1;
      },
    });
  beforeEach(async () => {
    server = await FakeApiServer.start();
    clock = new FakeClock(NOW_MS);
    changes = 0;
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it("keeps its authority in a Secret, so that the next operator has the same", async () => {
    using first = authority();
    await first.start();
    using second = authority();
    await second.start();
    expect(second.trustId).toBe(first.trustId);
    expect(server.all("secrets").length).toBe(1);
  });

  it("issues what belongs to one machine only, and is to be renewed at two thirds of its life", async () => {
    using one = authority();
    await one.start();
    const issued = await one.issueForMachine("uid-1");
    const certificate = new X509Certificate(issued.certificate);
    expect(certificate.subject).toBe("CN=machine:uid-1");
    expect(certificate.subjectAltName).toBe("DNS:uid-1.machine.typevisor.internal");
    expect(certificate.ca).toBe(false);
    // Server and client: a migration's two ends show it to each other.
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    expect(certificate.checkIssued(new X509Certificate(issued.trust))).toBe(true);
    expect(Math.round((issued.renewAtMs - NOW_MS) / DAY_MS)).toBe(20);
  });

  it("rotates while it runs, and says that machines need new certificates", async () => {
    using one = authority();
    await one.start();
    const before = await one.operatorCredentials();
    expect(await one.operatorCredentials()).toBe(before);
    clock.advance(250 * DAY_MS);
    await until(() => {
      clock.advance(3_600_000);
      return changes === 2;
    });
    const after = await one.operatorCredentials();
    expect(new X509Certificate(after.certificate).checkIssued(new X509Certificate(before.trust))).toBe(false);
  });

  it("signs by the next one the moment that its own ends, of which an operator that was away has seen only the last hours", async () => {
    const first = await rotateAuthority(undefined, NOW_MS);
    const endMs = validityOf(first.current.certificate).notAfterMs;
    clock.advance(endMs - NOW_MS - 1_800_000);
    const data = { "tls.crt": first.current.certificate, "tls.key": first.current.key };
    const base64 = Object.fromEntries(
      Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString("base64")]),
    );
    server.write("secrets", { metadata: { name: "ca", namespace: "system" }, data: base64 } as Secret);
    using one = authority();
    await one.start();
    expect(one.expiry.authorityMs).toBe(endMs);
    clock.advance(1_800_000);
    await until(() => changes === 1);
    expect(one.expiry.authorityMs).toBeGreaterThan(endMs);
  });

  it("says what to do about a Secret that holds no authority", async () => {
    server.write("secrets", { metadata: { name: "ca", namespace: "system" }, data: { "tls.crt": "eA==" } } as Secret);
    using one = authority();
    await expect(one.start()).rejects.toThrow(/Secret system\/ca lacks tls.crt or tls.key; restore it, or delete it/);
  });
});
