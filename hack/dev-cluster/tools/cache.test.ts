import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { type Cached, cacheDir, cached, missingEstimate } from "./cache.ts";
import { compareVersions } from "./versions.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "cache-test-"));
  process.env["TYPEVISOR_CACHE"] = dir;
});
afterEach(() => {
  delete process.env["TYPEVISOR_CACHE"];
  rmSync(dir, { recursive: true });
});

function thing(build: (into: string) => Promise<void>): Cached {
  return { key: "tool-1", title: "Building tool 1", estimateSeconds: 720, build };
}

describe("the cache of built tools", () => {
  it("builds a thing once, however many ask at the same time", async () => {
    let builds = 0;
    const tool = thing(async (into) => {
      builds++;
      await new Promise((resolve) => setTimeout(resolve, 50));
      writeFileSync(join(into, "tool"), "");
    });
    const paths = await Promise.all([cached(tool), cached(tool), cached(tool)]);
    expect(builds).toBe(1);
    expect(new Set(paths)).toEqual(new Set([join(dir, "tool-1")]));
    expect(existsSync(join(dir, "tool-1/tool"))).toBe(true);
  });

  it("keeps nothing of a build that failed, and tries again", async () => {
    const failing = thing(async (into) => {
      writeFileSync(join(into, "half"), "");
      throw new Error("no network");
    });
    await expect(cached(failing)).rejects.toThrow("no network");
    expect(existsSync(join(dir, "tool-1"))).toBe(false);
    const path = await cached(thing(async (into) => writeFileSync(join(into, "tool"), "")));
    expect(existsSync(join(path, "half"))).toBe(false);
  });

  it("removes what nobody asked for in weeks when something new is built, and keeps what is asked for", async () => {
    const longAgo = new Date("2020-01-01T00:00:00Z");
    for (const key of ["old-1", "tool-1"]) {
      mkdirSync(join(dir, key));
      utimesSync(join(dir, key), longAgo, longAgo);
    }
    await cached(thing(async () => {}));
    await cached({ ...thing(async () => {}), key: "tool-2" });
    expect(["old-1", "tool-1", "tool-2"].map((key) => existsSync(join(dir, key)))).toEqual([false, true, true]);
  });

  it("says what is still to be built and how long it takes", async () => {
    const tool = thing(async () => {});
    expect(missingEstimate([tool])).toBe("Building tool 1: about 12 min on 2 cores");
    await cached(tool);
    expect(missingEstimate([tool])).toBeUndefined();
  });

  it("is where the environment says, or in the user's cache directory", () => {
    expect(cacheDir({ TYPEVISOR_CACHE: "/x" })).toBe("/x");
    expect(cacheDir({ XDG_CACHE_HOME: "/y" })).toBe("/y/typevisor");
    expect(cacheDir({})).toMatch(/\/\.cache\/typevisor$/);
  });
});

describe("compareVersions", () => {
  it.each([
    ["1.26.0", "1.26.0", 0],
    ["1.26", "1.26.0", 0],
    ["1.9.9", "1.26.0", -1],
    ["1.26.8", "1.26.0", 1],
    ["2.0", "1.99.99", 1],
  ])("orders %s and %s", (a, b, sign) => {
    expect(Math.sign(compareVersions(a, b))).toBe(sign);
  });
});
