import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { hasCpuQuota, pollingHere } from "./polling.ts";

const config = { windowUs: 100, sharePercent: 20 };

describe("polling for requests to disks", () => {
  it("is as long as QEMU's, and half a processor at most, when nothing is said", () => {
    const { settings, description } = pollingHere(undefined, { processors: 2, hasQuota: false });
    expect(settings).toEqual({ windowMs: 0.032, share: 0.5 });
    expect(description).toBe("up to 32 us, at most 50 % of a processor");
  });

  it("is what the configuration says, also where CPU time is limited", () => {
    const settings = { windowMs: 0.1, share: 0.2 };
    expect(pollingHere(config, { processors: 2, hasQuota: false }).settings).toEqual(settings);
    expect(pollingHere(config, { processors: 2, hasQuota: true }).settings).toEqual(settings);
  });

  it.each([
    ["CPU time is limited and nothing is said", undefined, { processors: 2, hasQuota: true }, "CPU time is limited"],
    ["there is one processor", config, { processors: 1, hasQuota: false }, "there is one processor"],
    [
      "the configuration says so",
      { windowUs: 0, sharePercent: 50 },
      { processors: 2, hasQuota: false },
      "the configuration says so",
    ],
  ])("is off where %s", (_what, said, host, why) => {
    const { settings, description } = pollingHere(said, host);
    expect(settings).toBeNull();
    expect(description).toContain(why);
  });
});

describe("a limit to a cgroup's CPU time", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "cgroup-"));
    mkdirSync(join(root, "cpu"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  it.each([
    ["cpu.max", "200000 100000\n", true],
    ["cpu.max", "max 100000\n", false],
    ["cpu/cpu.cfs_quota_us", "150000\n", true],
    ["cpu/cpu.cfs_quota_us", "-1\n", false],
    ["other", "", false],
  ])("is read from %s (%j: %s)", (file, text, expected) => {
    writeFileSync(join(root, file), text);
    expect(hasCpuQuota(root)).toBe(expected);
  });
});
