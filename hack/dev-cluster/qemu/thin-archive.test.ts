import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { extract, type Header } from "tar-stream";
import { writeOciArchive } from "../../lib/oci.ts";
import { thinArchive } from "./thin-archive.ts";

describe("an archive for a node that has some of it", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "thin-archive-test-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  async function namesIn(bytes: Buffer): Promise<string[]> {
    const names: string[] = [];
    const entries = extract();
    entries.end(bytes);
    for await (const entry of entries) {
      names.push((entry.header as Header).name);
      entry.resume();
    }
    return names;
  }

  it("leaves out what it has, and nothing else", async () => {
    const file = join(directory, "image.tar");
    const layers = ["first", "second"].map((content) => ({ files: [{ path: "file", content }] }));
    await writeOciArchive({ name: "example/image:1", layers }, file);
    const whole = await namesIn(await buffer(thinArchive(file, new Set())));
    const blobs = whole.filter((name) => name.startsWith("blobs/"));
    expect(blobs).toHaveLength(4);
    const [known = ""] = blobs.slice(-1);
    const present = new Set([known.replace("blobs/sha256/", "sha256:")]);
    expect(await namesIn(await buffer(thinArchive(file, present)))).toEqual(whole.filter((name) => name !== known));
  });

  it("fails where the file cannot be read", async () => {
    await expect(buffer(thinArchive(join(directory, "missing.tar"), new Set()))).rejects.toThrow("ENOENT");
  });
});
