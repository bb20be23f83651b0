import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { withLock } from "./lock.ts";

const name = () => `test/${process.pid}/${Math.random()}`;

describe("a lock", () => {
  it("lets one work at a time", async () => {
    const lock = name();
    let inside = 0;
    let most = 0;
    const work = async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setTimeout(resolve, 5));
      inside--;
    };
    await Promise.all([1, 2, 3].map(() => withLock(lock, 10_000, work)));
    expect(most).toBe(1);
  });

  it("is free again after a failure", async () => {
    const lock = name();
    await expect(withLock(lock, 1000, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await withLock(lock, 1000, async () => "in")).toBe("in");
  });

  it("is free again when its holder is killed", async () => {
    const lock = name();
    const program = `const { withLock } = await import(${JSON.stringify(join(import.meta.dirname, "lock.ts"))});
      await withLock(${JSON.stringify(lock)}, 1000, () => { console.log("held"); return new Promise((r) => setTimeout(r, 1e6)); });`;
    const holder = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    await expect(withLock(lock, 10, async () => {})).rejects.toThrow("timed out");
    holder.kill("SIGKILL");
    expect(await withLock(lock, 10_000, async () => "in")).toBe("in");
  });
});
