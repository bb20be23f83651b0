import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { MachineConfig } from "../../api/machine-config.ts";
import { type KeyAndCertificate, TestAuthority } from "../testing/certificates.ts";
import { until } from "../testing/until.ts";
import { encodeFrame, MEMORY_FRAME, memoryHeader } from "./protocol.ts";
import { begin, MigrationLab, migrationOf, moved, portOf } from "./testing/migration-lab.ts";
import type { RealLauncher } from "./testing/real-launcher.ts";

/** In a row. With a Debian, and a hundred times: hack/migrations. */
const MOVES = 5;
/** With a load that writes memory faster than that. */
const ENDLESS = { bandwidthBytesPerSecond: 65_536, autoConverge: false, maxDowntimeMs: 1 };

let lab: MigrationLab;
let directory: string;
beforeEach(async () => {
  lab = await MigrationLab.make();
  directory = lab.directory;
});
afterEach(() => lab[Symbol.dispose]());

describe("a machine that migrates", () => {
  it("goes on in the other launcher, again and again, under a load that writes memory, and loses nothing", async () => {
    const disk = join(directory, "shared");
    writeFileSync(disk, new Uint8Array(1 << 20));
    const changes: Partial<MachineConfig> = {
      cpu: { count: 2, model: "Host" },
      disks: [{ name: "data", readOnly: false, queues: 1, source: { kind: "raw", path: disk } }],
    };
    let here = await (await lab.launcher(changes)).start();
    await here.attach();
    await here.said("READY");
    await here.ask("cpus", "cpus 2\r\n");
    await here.ask("fill 0x1000000 1000 3", "fill done");
    await here.ask("blkwrite 0 3 99", "blkwrite status 0");
    await here.ask("wrmsr 0x205 0xfc0000800", "wrmsr done");
    await here.ask("timer 3000000 1", "timer runs");
    try {
      for (let round = 0; round < MOVES; round++) {
        await here.ask("load 0x800000 300", "load runs");
        const there = await (await lab.launcher(changes)).start("--receive");
        expect(await migrationOf(there)).toMatchObject({ role: "target", phase: "Listening" });
        expect((await there.status()).state).toBe("Starting");
        await moved(here, there, { connections: 1 + (round % 3) });
        await here[Symbol.asyncDispose]();
        here = there;
        await here.attach();
        expect(await here.ask("stop", /ticks \d+\r\n/)).toMatch(/load rounds \d+ errors 0 backward 0 .* ticks [1-9]/);
        expect(here.text.length).toBeGreaterThan(0);
        await here.ask("check 0x1000000 1000 3", "check errors 0\r\n");
        await here.ask("blkread 0 3", "blkread status 0 data 0x63");
        expect(await migrationOf(here)).toMatchObject({ role: "target", phase: "Running" });
      }
      await here.ask("rdmsr 0x205", "msr 0x205: 0xfc0000800\r\n");
      await here.ask("reboot", "READY pvh");
      await here.ask("rdmsr 0x205", "msr 0x205: 0x0\r\n");
    } finally {
      await here[Symbol.asyncDispose]();
    }
  });

  it("is not moved to where it does not fit, nor without what it takes, and runs on", async () => {
    await using source = await (await lab.launcher()).start();
    await source.attach();
    await source.said("READY");
    await using small = await (await lab.launcher({ memory: { sizeBytes: 64 << 20 } })).start("--receive");
    const refused = async (target: RealLauncher, more: object = {}) => {
      expect((await begin(source, target, more)).status).toBe(202);
      await until(async () => (await migrationOf(source)).phase === "Failed");
      return (await migrationOf(source)).message;
    };
    expect(await refused(small)).toMatch(
      /refuses: 33554432 bytes of memory, and 67108864 here; the machine runs on here/,
    );
    const identity = { name: "other", namespace: "default", uid: "11111111-0000-0000-0000-000000000000" };
    await using other = await (await lab.launcher({ identity })).start("--receive");
    expect(await refused(other)).toMatch(/is not 11111111/);
    expect(await migrationOf(other)).toMatchObject({ phase: "Listening" });
    expect((await source.call("POST", "/v1/migration/start", { address: "nowhere", port: 1 })).status).toBe(400);
    expect((await source.call("POST", "/v1/migration/start", { address: "127.0.0.1", port: 1, x: 1 })).status).toBe(
      400,
    );
    expect((await source.call("POST", "/v1/migration/cancel")).status).toBe(200);
    await source.ask("echo still", "still\r\n");
  });

  it("runs on where it is when the migration is cancelled, is too late, or the target dies", async () => {
    await using source = await (await lab.launcher()).start();
    await source.attach();
    await source.said("READY");
    await source.ask("load 0x800000 300", "load runs");
    const failed = async () => {
      await until(async () => (await migrationOf(source)).phase === "Failed");
      return (await migrationOf(source)).message;
    };
    {
      await using target = await (await lab.launcher()).start("--receive");
      await begin(source, target, ENDLESS);
      await until(async () => (await migrationOf(source)).phase === "Copying");
      expect((await begin(source, target)).status).toBe(409);
      expect((await source.call("POST", "/v1/migration/cancel")).status).toBe(200);
      expect(await failed()).toMatch(/cancelled; the machine runs on here/);
      expect((await target.ended()).termination).toMatchObject({ reason: "StateInvalid" });
    }
    {
      await using target = await (await lab.launcher()).start("--receive");
      await begin(source, target, { ...ENDLESS, deadlineMs: 500 });
      expect(await failed()).toMatch(/not done within 500 ms/);
    }
    {
      await using target = await (await lab.launcher()).start("--receive");
      await begin(source, target, ENDLESS);
      await until(async () => (await migrationOf(source)).phase === "Copying");
      target.signal("SIGKILL");
      expect(await failed()).toMatch(/broke|closed/);
    }
    expect(await source.ask("stop", /ticks \d+\r\n/)).toMatch(/errors 0 backward 0/);
    await using target = await (await lab.launcher()).start("--receive");
    await moved(source, target);
    await target.attach();
    await target.ask("echo moved at last", "moved at last\r\n");
  });
});

describe("a launcher that waits for a machine", () => {
  const reach = (port: number, tls: Partial<KeyAndCertificate>, send: readonly Uint8Array[]): Promise<string> =>
    new Promise((resolve) => {
      let answer = "";
      const socket = connect({
        host: "127.0.0.1",
        port,
        ca: lab.authority.certificate,
        ...tls,
        checkServerIdentity: () => undefined,
      });
      socket.on("secureConnect", () => {
        for (const bytes of send) socket.write(bytes);
      });
      socket.on("data", (bytes: Buffer) => {
        answer += bytes.toString("latin1");
      });
      socket.on("error", () => {});
      socket.on("close", () => resolve(answer));
    });

  it("gives strangers nothing, whatever they send, and still takes its own machine", async () => {
    await using target = await (await lab.launcher()).start("--receive");
    const port = portOf(target);
    const hello = encodeFrame("hello", {
      version: 1,
      uid: target.config.identity.uid,
      launcherVersion: "x",
      memoryBytes: 32 << 20,
      connections: 1,
      processors: [],
    });
    const other = await lab.authority.issue("CN=machine-2");
    const foreign = await (await TestAuthority.create()).issue("CN=machine-1");
    expect(await reach(port, {}, [hello])).toBe("");
    expect(await reach(port, other, [hello])).toBe("");
    expect(await reach(port, foreign, [hello])).toBe("");
    // With the right certificate, and nothing right behind it.
    expect(await reach(port, lab.own, [encodeFrame("commit", {})])).toBe("");
    expect(await reach(port, lab.own, [hello.subarray(0, 20), new Uint8Array(100).fill(7)])).toBe("");
    expect(await reach(port, lab.own, [hello])).toContain("0 were saved, and this machine has 1");
    expect(await migrationOf(target)).toMatchObject({ phase: "Listening" });

    await using source = await (await lab.launcher()).start();
    await source.attach();
    await source.said("READY");
    // It comes to no end by itself, however long strangers take.
    await source.ask("load 0x800000 300", "load runs");
    await begin(source, target, ENDLESS);
    await until(async () => (await migrationOf(source)).phase === "Copying");
    const page = Buffer.alloc(4096, 0xee);
    const bare = [memoryHeader(MEMORY_FRAME.pages, 4096, 0), page];
    const withToken = [memoryHeader(MEMORY_FRAME.hello, 32, 0), Buffer.alloc(32), ...bare];
    expect(await reach(port, lab.own, [hello])).toBe("");
    expect(await reach(port + 1, lab.own, bare)).toBe("");
    expect(await reach(port + 1, lab.own, withToken)).toBe("");
    expect(await reach(port + 1, other, withToken)).toBe("");
    expect((await migrationOf(source)).phase).toBe("Copying");
    expect((await source.call("POST", "/v1/migration/cancel")).status).toBe(200);
    expect(await source.ask("stop", /ticks \d+\r\n/)).toMatch(/errors 0 backward 0/);
  });
});
