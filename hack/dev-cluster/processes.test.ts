import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { waitFor } from "../lib/step.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { ensureProcess, isProcessRunning, logFileOf, processNames, stopProcess, waitForProcess } from "./processes.ts";

let dir: string;
let layout: Layout;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "processes-test-"));
  layout = { ...layoutOf("test"), runDir: join(dir, "run"), logDir: join(dir, "log") };
});
afterEach(async () => {
  for (const name of await processNames(layout)) await stopProcess(layout, name);
  rmSync(dir, { recursive: true });
});

const sleeper = { name: "sleeper", argv: ["sleep", "1000"] };
const recordFile = () => join(layout.runDir, "processes/sleeper.json");
const record = () => JSON.parse(readFileSync(recordFile(), "utf8"));

describe("a process of the cluster", () => {
  it("is started once and then kept", async () => {
    expect(await ensureProcess(layout, sleeper)).toBe("started");
    const { pid } = record();
    expect(await ensureProcess(layout, sleeper)).toBe("kept");
    expect(record().pid).toBe(pid);
    expect(await processNames(layout)).toEqual(["sleeper"]);
  });

  it("is started again when it has died", async () => {
    await ensureProcess(layout, sleeper);
    process.kill(record().pid, "SIGKILL");
    await waitFor(async () => !(await isProcessRunning(layout, "sleeper")), { what: "its end", timeoutMs: 5000 });
    expect(await ensureProcess(layout, sleeper)).toBe("restarted");
    expect(await isProcessRunning(layout, "sleeper")).toBe(true);
  });

  it("is replaced when it should run otherwise", async () => {
    await ensureProcess(layout, sleeper);
    const { pid } = record();
    expect(await ensureProcess(layout, { ...sleeper, argv: ["sleep", "2000"] })).toBe("restarted");
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  it("joins its cgroups before the program starts", async () => {
    const procs = join(dir, "cgroup.procs");
    await ensureProcess(layout, { name: "joiner", argv: ["cat", procs], cgroupProcs: [procs] });
    await waitFor(async () => readFileSync(logFileOf(layout, "joiner"), "utf8") === "0\n", {
      what: "the program to see what was written",
      timeoutMs: 5000,
    });
  });

  it("ends when it is stopped, even if it does not want to", async () => {
    const stubborn = { name: "sleeper", argv: ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"] };
    await ensureProcess(layout, stubborn);
    await stopProcess(layout, "sleeper", 300);
    expect(await isProcessRunning(layout, "sleeper")).toBe(false);
    expect(await processNames(layout)).toEqual([]);
  });

  it.each(["startTicks", "bootId"])("is not mistaken for another that has its number (%s)", async (field) => {
    await ensureProcess(layout, sleeper);
    const own = record();
    writeFileSync(recordFile(), JSON.stringify({ ...own, [field]: "1" }));
    expect(await isProcessRunning(layout, "sleeper")).toBe(false);
    await stopProcess(layout, "sleeper");
    expect(process.kill(own.pid, 0)).toBe(true);
    process.kill(own.pid);
  });

  it("that ends while it is waited for ends the waiting, with its last words", async () => {
    await ensureProcess(layout, { name: "failing", argv: ["sh", "-c", "echo no such thing; exit 1"] });
    await expect(waitForProcess(layout, "failing", async () => false, 60_000)).rejects.toThrow("no such thing");
  });
});
