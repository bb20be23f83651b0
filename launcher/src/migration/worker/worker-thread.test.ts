import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { openFile } from "../../sys/file-io.ts";
import { ReadyWorkers } from "./worker-thread.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "workers-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("threads that are made before there is anything to do", () => {
  it("do what comes, and so do others once they are all taken", async () => {
    const path = join(directory, "image");
    writeFileSync(path, "contents");
    using file = openFile(path, {});
    using ready = new ReadyWorkers(1);
    const workers = [1, 2, 3].map(() => ready.start({ kind: "digest", fd: file.fd }));
    expect(new Set(workers).size).toBe(3);
    const said = await Promise.all(
      workers.map((worker) => Promise.all([once(worker, "message"), once(worker, "exit")])),
    );
    const [[[first]] = [[]]] = said;
    expect(first).toBeInstanceOf(Uint8Array);
    expect(said.map(([[digest], [code]]) => [digest, code])).toEqual(said.map(() => [first, 0]));
  });

  it("end when they are not wanted, and leave those that have a task", async () => {
    const path = join(directory, "image");
    writeFileSync(path, "contents");
    using file = openFile(path, {});
    const ready = new ReadyWorkers(2);
    const worker = ready.start({ kind: "digest", fd: file.fd });
    const [other] = ready.waiting;
    if (!other) throw new Error("one waits");
    const [ended, said] = [once(other, "exit"), once(worker, "message")];
    ready[Symbol.dispose]();
    expect(await ended).toEqual([0]);
    expect([...ready.waiting]).toEqual([]);
    expect(await said).toHaveLength(1);
  });
});
