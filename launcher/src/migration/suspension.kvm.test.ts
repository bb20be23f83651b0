import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { RealLauncher } from "./testing/real-launcher.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "suspension-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const saved = () => join(directory, "saved");

const imageDisk = (): DiskConfig => {
  const imageRoot = join(directory, "image");
  mkdirSync(join(imageRoot, "disk"), { recursive: true });
  writeFileSync(join(imageRoot, "disk/disk.img"), new Uint8Array(1 << 20).fill(3));
  return {
    name: "root",
    readOnly: false,
    queues: 1,
    source: { kind: "image", imageRoot, overlayPath: join(directory, "overlay") },
  };
};

describe("a machine that is suspended", () => {
  it("goes on in another process, with memory, disks, timers and history, and its time never goes back", async () => {
    const disks = [imageDisk()];
    await using first = await new RealLauncher(join(directory, "first"), { disks }).start();
    await first.attach();
    await first.said("READY");
    await first.ask("fill 0x1000000 500 9", "fill done");
    await first.ask("blkwrite 0 7 4242", "blkwrite status 0");
    // A range of memory types, its fixed part, and that they count (IA32_MTRR_*).
    const memoryTypes = {
      "0x202": "0xd0000001",
      "0x203": "0xff0000800",
      "0x268": "0x606060606060606",
      "0x2ff": "0xc06",
    };
    for (const [index, value] of Object.entries(memoryTypes)) await first.ask(`wrmsr ${index} ${value}`, "wrmsr done");
    await first.ask("timer 3000000 1", "timer runs");
    const before = Number(/tsc (\d+)/.exec(await first.ask("tsc", /tsc \d+\r\n/))?.[1]);
    await first.ask("load 0x800000 100", "load runs");
    const { status, value } = await first.call("POST", "/v1/suspend", { directory: saved() });
    expect([status, value.state, value.reason]).toEqual([200, "Ended", "Suspended"]);
    expect(await first.ended()).toMatchObject({ exitCode: 0, termination: { reason: "Suspended" } });
    expect(readdirSync(saved()).sort()).toEqual(["memory", "state"]);
    const { blocks, size } = statSync(join(saved(), "memory"));
    expect(size).toBe(32 << 20);
    expect(blocks * 512).toBeLessThan(8 << 20);

    await using second = await new RealLauncher(join(directory, "second"), { disks }).start("--restore", saved());
    await second.attach();
    await second.said("load runs");
    expect(second.text).toContain("READY");
    expect(await second.ask("stop", /ticks \d+\r\n/)).toMatch(/load rounds \d+ errors 0 backward 0 /);
    const ticks = Number(/ticks (\d+)/.exec(await second.ask("ticks", /ticks \d+\r\n/))?.[1]);
    expect(ticks).toBeGreaterThan(0);
    const after = Number(/tsc (\d+)/.exec(await second.ask("tsc", /tsc \d+\r\n/))?.[1]);
    expect(after).toBeGreaterThan(before);
    await second.ask("check 0x1000000 500 9", "check errors 0\r\n");
    for (const [index, value] of Object.entries(memoryTypes))
      await second.ask(`rdmsr ${index}`, `msr ${index}: ${value}\r\n`);
    await second.ask("blkread 0 7", "blkread status 0 data 0x1092");
    await second.ask("blkread 0 8", "blkread status 0 data 0x303030303030303");
    expect((await second.status()).state).toBe("Running");
    expect(readdirSync(saved())).toEqual(["state.taken"]);

    const third = new RealLauncher(join(directory, "third"), { disks });
    await expect(third.start("--restore", saved())).rejects.toThrow(/ended with 67/);
    expect((await third.ended()).termination?.message).toContain("one that went on already");
  });

  it("runs on where it cannot be written", async () => {
    await using launcher = await new RealLauncher(join(directory, "first")).start();
    await launcher.attach();
    await launcher.said("READY");
    writeFileSync(saved(), "in the way");
    const { status, value } = await launcher.call("POST", "/v1/suspend", { directory: saved() });
    expect([status, value.error?.message]).toEqual([409, expect.stringContaining("it goes on")]);
    expect((await launcher.call("POST", "/v1/suspend", { directory: "relative" })).status).toBe(400);
    await launcher.ask("echo still", "still\r\n");
    expect((await launcher.status()).state).toBe("Running");
  });

  it("is not gone on with where its files are not whole, and the launcher says why", async () => {
    await using first = await new RealLauncher(join(directory, "first")).start();
    await first.attach();
    await first.said("READY");
    await first.call("POST", "/v1/suspend", { directory: saved() });
    await first.ended();
    const state = readFileSync(join(saved(), "state"));
    const refusal = async (harm: () => void) => {
      harm();
      await using launcher = new RealLauncher(join(directory, "next"));
      await expect(launcher.start("--restore", saved())).rejects.toThrow(/ended with 67/);
      return (await launcher.ended()).termination?.message;
    };
    expect(await refusal(() => writeFileSync(join(saved(), "state"), state.subarray(0, state.length - 9)))).toMatch(
      /state cannot be used/,
    );
    const damaged = Buffer.from(state);
    damaged[5000] = (damaged[5000] ?? 0) ^ 1;
    expect(await refusal(() => writeFileSync(join(saved(), "state"), damaged))).toMatch(/section \d is damaged/);
    writeFileSync(join(saved(), "state"), state);
    expect(await refusal(() => truncateSync(join(saved(), "memory"), 4096))).toMatch(
      /memory cannot be used: .*4096 bytes/,
    );
    expect(existsSync(join(saved(), "state"))).toBe(true);
  });
});
