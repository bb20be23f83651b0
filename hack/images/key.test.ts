import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { keyOf } from "./key.ts";

describe("a key", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "key-test-"));
    writeFileSync(join(directory, "file"), "content");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("stays when only times change", async () => {
    const before = await keyOf([{ path: directory }]);
    utimesSync(join(directory, "file"), 1, 1);
    expect(await keyOf([{ path: directory }])).toBe(before);
  });

  it("changes with what a file holds and with its name", async () => {
    const keys = [await keyOf([{ path: directory }])];
    writeFileSync(join(directory, "file"), "CONTENT");
    keys.push(await keyOf([{ path: directory }]));
    renameSync(join(directory, "file"), join(directory, "other"));
    keys.push(await keyOf([{ path: directory }]));
    expect(new Set(keys).size).toBe(3);
  });

  it("changes with values", async () => {
    expect(await keyOf([{ value: ["a"] }])).not.toBe(await keyOf([{ value: ["b"] }]));
  });

  it("does not depend on where a directory is", async () => {
    const before = await keyOf([{ path: directory }]);
    const moved = `${directory}-moved`;
    renameSync(directory, moved);
    try {
      expect(await keyOf([{ path: moved }])).toBe(before);
    } finally {
      renameSync(moved, directory);
    }
  });
});
