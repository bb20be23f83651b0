import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { cachedDirectory, keyOf } from "./cache.ts";

let scratch: string;
const before = process.env["TYPEVISOR_CACHE"];
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "cache-test-"));
  process.env["TYPEVISOR_CACHE"] = scratch;
});
afterEach(() => {
  rmSync(scratch, { recursive: true });
  if (before === undefined) delete process.env["TYPEVISOR_CACHE"];
  else process.env["TYPEVISOR_CACHE"] = before;
});

const fill = (text: string) => async (directory: string) => writeFileSync(join(directory, "file"), text);

describe("a cached directory", () => {
  it("is made once for a key", async () => {
    const first = await cachedDirectory("kind", "k1", fill("first"));
    expect(await cachedDirectory("kind", "k1", fill("second"))).toBe(first);
    expect(readFileSync(join(first, "file"), "utf8")).toBe("first");
  });

  it("takes the place of one with another key", async () => {
    const old = await cachedDirectory("kind", "k1", fill("old"));
    await cachedDirectory("kind", "k2", fill("new"));
    expect(existsSync(old)).toBe(false);
  });

  it("does not exist when making it failed, and the one before stays", async () => {
    const old = await cachedDirectory("kind", "k1", fill("old"));
    const failing = cachedDirectory("kind", "k2", async (directory) => {
      await fill("half")(directory);
      throw new Error("no disk");
    });
    await expect(failing).rejects.toThrow("no disk");
    expect(existsSync(join(scratch, "kind", "k2"))).toBe(false);
    expect(existsSync(old)).toBe(true);
  });
});

describe("a key", () => {
  it("follows the contents and names of files, not their times", async () => {
    const path = join(scratch, "f");
    writeFileSync(path, "a");
    const first = await keyOf([{ path: scratch }, { value: [1] }]);
    utimesSync(path, 1, 1);
    expect(await keyOf([{ path: scratch }, { value: [1] }])).toBe(first);
    writeFileSync(path, "b");
    expect(await keyOf([{ path: scratch }, { value: [1] }])).not.toBe(first);
    expect(await keyOf([{ value: [2] }])).not.toBe(await keyOf([{ value: [1] }]));
  });
});
