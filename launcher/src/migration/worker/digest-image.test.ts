import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "@jest/globals";
import { openFile, pwriteFully } from "../../sys/file-io.ts";
import { firstOtherImage } from "../image-digests.ts";
import { imageDigest } from "./digest-image.ts";
import { endWorker, startWorker } from "./worker-thread.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "digest-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const SIZE = (1 << 20) + 512;

/** The digest of a file with those bytes at those offsets; zeroes between them are written, or holes. */
async function digest(bytes: Readonly<Record<number, string>>, { holes = false, size = SIZE } = {}): Promise<string> {
  const path = join(directory, "image");
  writeFileSync(path, holes ? "" : Buffer.alloc(size));
  truncateSync(path, size);
  using file = openFile(path, { write: true });
  for (const [at, text] of Object.entries(bytes)) pwriteFully(file.fd, Buffer.from(text), Number(at));
  return Buffer.from(await imageDigest(file.fd)).toString("hex");
}

it("an image's digest is the same with holes and with zeroes, and another for any other byte, place or size", async () => {
  const image = { 100: "abc", 300000: "def", [SIZE - 3]: "end" };
  const known = await digest(image);
  expect(await digest(image, { holes: true })).toBe(known);
  expect(await digest({ ...image, 300000: "deg" })).not.toBe(known);
  expect(await digest({ 100: "abc", 365536: "def", [SIZE - 3]: "end" })).not.toBe(known);
  expect(await digest({ 100: "abc", 300000: "def" })).not.toBe(known);
  expect(await digest(image, { size: SIZE + 65_536 })).not.toBe(known);
  expect(await digest({}, { holes: true })).toBe(await digest({}));
});

it("a thread that is told to end does so between two pieces, and says nothing more", async () => {
  const path = join(directory, "image");
  writeFileSync(path, Buffer.alloc(1 << 26, 1));
  using file = openFile(path, {});
  const worker = startWorker({ kind: "digest", fd: file.fd });
  const said: unknown[] = [];
  worker.on("message", (message) => said.push(message));
  const exited = once(worker, "exit");
  await endWorker(worker);
  expect(await exited).toEqual([0]);
  expect(said).toEqual([]);
  await expect(endWorker(worker)).resolves.toBeUndefined();
});

it("images are compared by disk, in any order, and none may be missing or too many", () => {
  const [a, b] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const ours = [
    { disk: "root", digest: a },
    { disk: "data", digest: b },
  ];
  expect(firstOtherImage(ours, [...ours].reverse())).toBeNull();
  expect(firstOtherImage(ours, [ours[0] ?? { disk: "", digest: a }])).toBe("data");
  expect(firstOtherImage(ours, [...ours, { disk: "more", digest: a }])).toBe("more");
  expect(firstOtherImage(ours, [...ours.slice(0, 1), { disk: "data", digest: a }])).toBe("data");
});
