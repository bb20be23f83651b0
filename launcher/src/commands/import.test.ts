import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { ImportConfig, ImportTermination } from "../../api/import.ts";
import { OddServer, serve } from "../import/testing/odd-server.ts";
import { until } from "../testing/until.ts";

const MIB = 2 ** 20;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "import-command-"));
  for (const name of ["volume", "scratch"]) mkdirSync(join(directory, name));
  writeFileSync(join(directory, "last-word"), "");
});
afterEach(() => rmSync(directory, { recursive: true }));

function configOf(url: string): ImportConfig {
  return {
    version: 1,
    source: { kind: "http", url },
    target: { kind: "directory", path: join(directory, "volume"), sizeBytes: 2 ** 20 },
    scratchDirectory: join(directory, "scratch"),
    telemetry: { address: "127.0.0.1", port: 0 },
    terminationMessagePath: join(directory, "last-word"),
    log: { level: "info" },
  };
}

function launch(config: object) {
  const main = join(import.meta.dirname, "../main.ts");
  return spawn(process.execPath, [main, "import", JSON.stringify(config)], { stdio: ["ignore", "ignore", "inherit"] });
}
const lastWord = () => JSON.parse(readFileSync(join(directory, "last-word"), "utf8")) as ImportTermination;

describe("launcher import", () => {
  it("fills the volume, and ends with a last word that has the figures", async () => {
    const disk = Buffer.alloc(100_000, 7);
    await using server = await OddServer.start(serve(disk));
    expect(await once(launch(configOf(server.url)), "exit")).toEqual([0, null]);
    expect(
      readFileSync(join(directory, "volume", "disk.img"))
        .subarray(0, disk.length)
        .equals(disk),
    ).toBe(true);
    const progress = { doneBytes: 100_000, totalBytes: 100_000, format: "raw", diskBytes: 100_352 };
    expect(lastWord()).toMatchObject({ version: 1, reason: "Completed", progress });
  }, 60_000);

  it("ends with the code of its reason where the volume is too small", async () => {
    await using server = await OddServer.start(serve(Buffer.alloc(2 ** 21)));
    expect(await once(launch(configOf(server.url)), "exit")).toEqual([73, null]);
    expect(lastWord()).toMatchObject({ reason: "TargetTooSmall", message: expect.stringContaining("2097152 bytes") });
  }, 60_000);

  it("ends at once when it is stopped, whatever the server does", async () => {
    await using server = await OddServer.start(serve(Buffer.alloc(100_000), { hangAfter: 1000 }));
    const child = launch(configOf(server.url));
    const ended = once(child, "exit");
    await until(() => server.requests.length > 0);
    child.kill("SIGTERM");
    expect(await ended).toEqual([77, null]);
    expect(lastWord()).toMatchObject({ reason: "Stopped" });
  }, 60_000);

  it("goes on where one that was killed had recorded what is durable", async () => {
    const disk = Buffer.alloc(100 * MIB);
    for (let at = 0; at < disk.length; at += 64 * 1024) disk.writeUInt32LE(at + 1, at);
    await using server = await OddServer.start(serve(disk, { hangAfter: 80 * MIB }), serve(disk));
    const digest = createHash("sha256").update(disk).digest("hex");
    const source = { kind: "http", url: server.url, checksum: { algorithm: "sha256", digest } } as const;
    const target = { ...configOf(server.url).target, sizeBytes: disk.length };
    const config = { ...configOf(server.url), source, target };
    const killed = launch(config);
    const ended = once(killed, "exit");
    await until(() => readdirSync(join(directory, "volume")).includes("disk.img.import"));
    killed.kill("SIGKILL");
    expect(await ended).toEqual([null, "SIGKILL"]);
    expect(await once(launch(config), "exit")).toEqual([0, null]);
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([undefined, `bytes=${64 * MIB}-`]);
    expect(readFileSync(join(directory, "volume", "disk.img")).equals(disk)).toBe(true);
    expect(readdirSync(join(directory, "volume"))).toEqual(["disk.img"]);
    expect(lastWord()).toMatchObject({ reason: "Completed", progress: { doneBytes: disk.length, resumed: 1 } });
  }, 60_000);

  it("refuses a configuration that is wrong, and names the field", async () => {
    const { target: _, ...config } = configOf("http://127.0.0.1/");
    expect(await once(launch(config), "exit")).toEqual([64, null]);
  }, 60_000);
});
