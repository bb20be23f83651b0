import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import type { TLSSocket } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { V1ValidatingWebhookConfiguration } from "@kubernetes/client-node";
import { Authority } from "../../certificates/authority.ts";
import { AUTHORITY_LIFE_MS, OVERLAP_MS } from "../../certificates/authority-state.ts";
import { Client } from "../../runtime/client.ts";
import { plainConnection } from "../../runtime/connection.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";
import type { PassFailure } from "../../runtime/pass-metrics.ts";
import { FakeApiServer, type FakeObject } from "../../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../../runtime/testing/recording-logger.ts";
import { until } from "../../runtime/testing/until.ts";
import type { KubernetesObject, Wire } from "../../runtime/wire.ts";
import { NOW_MS } from "../virtualmachine/testing/fixtures.ts";
import type { EvictionOutcome } from "./metrics.ts";
import { launcherPod, runningMachine, type Strategy } from "./testing/fixtures.ts";
import { WebhookController } from "./webhook-controller.ts";

type Configuration = Wire<V1ValidatingWebhookConfiguration> & FakeObject;

const SERVICE = "typevisor-webhook";
const NAMESPACE = "system";
const HOUR_MS = 3_600_000;

describe("the webhook of evictions", () => {
  let server: FakeApiServer;
  let clock: FakeClock;
  let logger: RecordingLogger;
  let events: EventDraft[];
  let outcomes: EvictionOutcome[];
  let failures: PassFailure[];
  let replicas: Replica[];
  let authority: Authority;
  let stop: AbortController;

  interface Replica {
    readonly webhook: WebhookController;
    readonly running: Promise<unknown>;
  }

  const client = () => new Client(plainConnection(server.url), { timeoutMs: 5_000 });
  const start = (leads: boolean): Replica => {
    const webhook = new WebhookController({
      client: client(),
      webhookClient: client(),
      clock,
      logger,
      events: { record: (_, draft) => events.push(draft) },
      metrics: { answered: (outcome) => outcomes.push(outcome) },
      onPassFailed: (outcome) => failures.push(outcome),
      namespace: NAMESPACE,
      caSecret: "ca",
      settings: { port: 0, service: SERVICE, configuration: "typevisor-eviction" },
    });
    const running = Promise.all([webhook.watch(stop.signal), ...(leads ? [webhook.work(stop.signal)] : [])]);
    return { webhook, running };
  };

  beforeEach(async () => {
    server = await FakeApiServer.start();
    clock = new FakeClock(NOW_MS);
    logger = new RecordingLogger();
    events = [];
    outcomes = [];
    failures = [];
    stop = new AbortController();
    authority = new Authority({
      client: client(),
      clock,
      logger,
      namespace: NAMESPACE,
      secretName: "ca",
      onTrustChange: () => {},
    });
    server.write("validatingwebhookconfigurations", {
      metadata: { name: "typevisor-eviction", namespace: "" },
      webhooks: [{ name: "eviction.typevisor.io", clientConfig: { service: { namespace: NAMESPACE, name: SERVICE } } }],
    } as KubernetesObject);
    replicas = [start(true), start(false)];
  });
  afterEach(async () => {
    stop.abort();
    authority[Symbol.dispose]();
    for (const { webhook, running } of replicas) {
      await running;
      await webhook[Symbol.asyncDispose]();
    }
    await server[Symbol.asyncDispose]();
  });

  const configuration = () => {
    const stored = server.read<Configuration>("validatingwebhookconfigurations", "", "typevisor-eviction");
    const { caBundle = "", service } = stored?.webhooks?.[0]?.clientConfig ?? {};
    return { trust: Buffer.from(caBundle, "base64").toString(), path: service?.path ?? "" };
  };
  /** A jump of the clock breaks watches, which come back after a while of it. */
  const later = (check: () => boolean) =>
    until(() => {
      clock.advance(1_000);
      return check();
    });
  const ready = async () => {
    await authority.start();
    await until(() => configuration().trust !== "" && replicas.every(({ webhook }) => webhook.hasSynced));
  };
  const machineWith = (strategy: Strategy, migratable: "True" | "False" = "True") => {
    const vm = runningMachine(strategy, migratable);
    server.write("virtualmachines", vm);
    server.write("pods", launcherPod(vm));
  };

  interface Asked {
    readonly replica?: number;
    readonly podName?: string;
    readonly isDryRun?: boolean;
    readonly access?: { readonly trust: string; readonly path: string };
    readonly body?: string;
  }
  /** As an API server would see it by the time of the test, which the process's TLS knows nothing of. */
  const checkTrust = (shown: X509Certificate | undefined, trust: string) => {
    const authorities = (trust.match(/-----BEGIN [\s\S]+?END CERTIFICATE-----/g) ?? []).map(
      (pem) => new X509Certificate(pem),
    );
    const issuer = authorities.find((each) => shown?.checkIssued(each) && shown.verify(each.publicKey));
    expect(issuer).toBeDefined();
    expect(shown?.checkHost(`${SERVICE}.${NAMESPACE}.svc`)).toBeDefined();
    for (const each of [shown, issuer]) {
      expect(each?.validFromDate.getTime()).toBeLessThanOrEqual(clock.now());
      expect(each?.validToDate.getTime()).toBeGreaterThan(clock.now());
    }
  };
  /** Asks as an API server does. */
  const ask = async ({ replica = 0, podName = "vm-web", isDryRun = false, access, body }: Asked = {}) => {
    const { trust, path } = access ?? configuration();
    const review = {
      apiVersion: "admission.k8s.io/v1",
      kind: "AdmissionReview",
      request: {
        uid: "1",
        name: podName,
        namespace: "shop",
        operation: "CREATE",
        subResource: "eviction",
        resource: { group: "", version: "v1", resource: "pods" },
        dryRun: isDryRun,
        object: {},
      },
    };
    const outgoing = request({
      host: "127.0.0.1",
      port: replicas[replica]?.webhook.port,
      servername: `${SERVICE}.${NAMESPACE}.svc`,
      rejectUnauthorized: false,
      method: "POST",
      path,
      agent: false,
    });
    outgoing.end(body ?? JSON.stringify(review));
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    checkTrust((response.socket as TLSSocket).getPeerX509Certificate(), trust);
    const text = Buffer.concat(await response.toArray()).toString();
    return { status: response.statusCode, response: response.statusCode === 200 ? JSON.parse(text).response : text };
  };

  it("begins one migration, however often and whichever replica is asked, and says so in one event", async () => {
    await ready();
    machineWith("LiveMigrate");
    const answers = await Promise.all([ask(), ask({ replica: 1 }), ask(), ask({ replica: 1 })]);
    for (const { response } of answers) {
      expect(response).toMatchObject({ allowed: false, status: { code: 429 } });
    }
    expect(server.all("virtualmachinemigrations")).toMatchObject([
      { metadata: { namespace: "shop" }, spec: { virtualMachineName: "web", priority: "Drain" } },
    ]);
    expect(events.map(({ reason }) => reason)).toEqual(["DrainMigrates"]);
    expect(outcomes.filter((outcome) => outcome !== "migrated" && outcome !== "moving")).toEqual([]);
    outcomes = [];
    await ask();
    machineWith("LiveMigrate", "False");
    const [{ metadata }] = server.all("virtualmachinemigrations") as [KubernetesObject];
    server.erase("virtualmachinemigrations", "shop", metadata?.name ?? "");
    await ask();
    expect(outcomes).toEqual(["moving", "refused"]);
  });

  it("answers a dry run as it would answer, and does nothing", async () => {
    await ready();
    machineWith("LiveMigrate");
    expect((await ask({ isDryRun: true })).response).toMatchObject({
      allowed: false,
      status: { code: 429, message: expect.stringMatching(/moves to another node/) },
    });
    expect(server.all("virtualmachinemigrations")).toEqual([]);
    machineWith("LiveMigrateIfPossible", "False");
    expect((await ask({ isDryRun: true })).response).toMatchObject({ allowed: true, warnings: [expect.any(String)] });
    expect(events).toEqual([]);
  });

  it("lets other pods go without reading more than the pod, and machines that may be stopped", async () => {
    await ready();
    server.write("pods", { metadata: { name: "vm-other", namespace: "shop", labels: { app: "x" } } });
    const before = server.requests.length;
    expect((await ask({ podName: "vm-other" })).response).toEqual({ uid: "1", allowed: true });
    const read = server.requests.slice(before).filter(({ isWatch }) => !isWatch);
    expect(read.map(({ plural, name }) => [plural, name])).toEqual([["pods", "vm-other"]]);
    expect((await ask({ podName: "vm-none" })).response).toMatchObject({ allowed: true });
    machineWith("None");
    expect((await ask()).response).toEqual({ uid: "1", allowed: true });
    machineWith("LiveMigrateIfPossible", "False");
    expect((await ask()).response).toMatchObject({ allowed: true, warnings: [expect.stringMatching(/cannot move/)] });
    expect(events.map(({ reason }) => reason)).toEqual(["DrainStops"]);
  });

  it("refuses a machine's eviction where it cannot look, and has no say in anybody's else", async () => {
    await ready();
    machineWith("LiveMigrateIfPossible");
    const code = 500;
    const broken = {
      kind: "answer",
      status: { kind: "Status", code, reason: "InternalError", message: "etcd is away" },
    } as const;
    server.intercept = ({ plural, isWatch }) => (plural === "virtualmachines" && !isWatch ? broken : undefined);
    expect((await ask()).response).toMatchObject({
      allowed: false,
      status: { message: expect.stringMatching(/etcd is away/) },
    });
    server.intercept = ({ plural, isWatch }) => (plural === "pods" && !isWatch ? broken : undefined);
    expect((await ask()).status).toBe(500);
    server.intercept = ({ plural, method }) =>
      plural === "virtualmachinemigrations" && method === "POST" ? broken : undefined;
    expect((await ask()).response).toMatchObject({ allowed: false, status: { code: 429 } });
    server.intercept = undefined;
  });

  it("knows who asks by a path that only its configuration has", async () => {
    await ready();
    machineWith("LiveMigrate");
    const { trust, path } = configuration();
    for (const wrong of ["/", "/evictions/", `${path}x`, path.slice(0, -1), path.replace(/.$/, "_")]) {
      expect((await ask({ access: { trust, path: wrong } })).status).toBe(404);
    }
    expect((await ask({ access: { trust, path: `${path}?timeout=10s` } })).status).toBe(200);
    expect(server.all("virtualmachinemigrations")).toHaveLength(1);
  });

  it("reads no more than it must of what is sent", async () => {
    await ready();
    expect((await ask({ body: "x".repeat(300 * 1024) })).status).toBe(413);
    expect((await ask({ body: "{}" })).status).toBe(400);
  });

  it("is trusted all the time while the authority changes, by a configuration that is behind, too", async () => {
    await ready();
    machineWith("None");
    const reached = async (access = configuration()) => {
      for (const replica of [0, 1]) expect((await ask({ replica, access })).response).toMatchObject({ allowed: true });
    };
    const first = configuration();
    await reached(first);
    // Two thirds of its life on there is a second one, which all come to trust.
    clock.advance((AUTHORITY_LIFE_MS * 2) / 3 + HOUR_MS);
    await later(() => configuration().trust !== first.trust);
    const overlapping = configuration();
    expect(overlapping.trust.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    await reached(overlapping);
    await reached(first);
    // A day later it signs; the configuration of the day before still leads here.
    clock.advance(OVERLAP_MS + HOUR_MS);
    await later(() => configuration().path !== overlapping.path);
    await reached(configuration());
    await reached(overlapping);
    expect(logger.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("is trusted anew by an operator that comes back after its authority has ended", async () => {
    await ready();
    machineWith("None");
    const first = configuration();
    stop.abort();
    authority[Symbol.dispose]();
    for (const { webhook, running } of replicas) {
      await running;
      await webhook[Symbol.asyncDispose]();
    }
    clock.advance(AUTHORITY_LIFE_MS + HOUR_MS);
    stop = new AbortController();
    // The others may be there before the leader has a new authority.
    replicas = [start(true), start(false)];
    await until(() => replicas.every(({ webhook }) => webhook.hasSynced));
    await authority.start();
    await later(() => configuration().trust !== first.trust);
    for (const replica of [0, 1]) {
      // One that has not heard of the new authority yet shows a certificate of the old one.
      const { response } = await until(() => {
        clock.advance(1_000);
        return ask({ replica }).catch(() => undefined);
      });
      expect(response).toMatchObject({ allowed: true });
    }
    expect(configuration().trust.match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
  });

  it("renews its certificate before it ends", async () => {
    await ready();
    machineWith("None");
    const before = replicas.map(({ webhook }) => webhook.certificateNotAfterMs ?? 0);
    clock.advance(10 * 24 * HOUR_MS);
    await later(() => replicas.every(({ webhook }, i) => (webhook.certificateNotAfterMs ?? 0) > (before[i] ?? 0)));
    expect((await ask({ replica: 1 })).status).toBe(200);
  });

  it("mends its configuration when somebody takes the trust away", async () => {
    await ready();
    const { trust } = configuration();
    server.edit<Configuration>("validatingwebhookconfigurations", "", "typevisor-eviction", (each) => {
      Object.assign(each.webhooks?.[0]?.clientConfig ?? {}, { caBundle: "" });
    });
    await until(() => configuration().trust === trust);
  });

  it("counts each time that its configuration cannot be kept, and tries again", async () => {
    const status = { kind: "Status", code: 403, reason: "Forbidden", message: "no right" } as const;
    server.intercept = ({ plural, method }) =>
      plural === "validatingwebhookconfigurations" && method === "PATCH" ? { kind: "answer", status } : undefined;
    await authority.start();
    await later(() => failures.length >= 2);
    expect(new Set(failures)).toEqual(new Set(["error"]));
    server.intercept = undefined;
    await later(() => configuration().trust !== "");
  });

  it("serves on with what it had when the authority's Secret becomes unreadable", async () => {
    await ready();
    machineWith("None");
    server.edit("secrets", NAMESPACE, "ca", (secret) => Object.assign(secret, { data: {} }));
    await until(() => logger.lines.some(({ message }) => message === "The certificate authority cannot be read"));
    expect((await ask()).status).toBe(200);
  });
});
