import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { CommandError, formatSeconds, run, succeeds, waitFor } from "./step.ts";

describe("run", () => {
  it("gives the standard output, and feeds the standard input", async () => {
    expect(await run(["cat"], { input: "hello" })).toBe("hello");
    expect(await run(["sh", "-c", "echo out; echo err >&2"])).toBe("out\n");
  });

  it("fails with the end of what was printed, the log and what to try next", async () => {
    const dir = mkdtempSync(join(tmpdir(), "step-test-"));
    try {
      const logFile = join(dir, "sub/build.log");
      const command = ["sh", "-c", "seq 100; echo broken >&2; exit 3"];
      const error = await run(command, { logFile, advice: "repair it" }).catch((failure: unknown) => failure);
      expect(error).toBeInstanceOf(CommandError);
      expect(error).toMatchObject({ exitCode: 3, logFile });
      const { message } = error as CommandError;
      expect(message).toContain("100\nbroken\n");
      expect(message).not.toContain("\n50\n");
      expect(message).toContain("Next: repair it");
      expect(readFileSync(logFile, "utf8")).toContain("\n50\n");
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("fails when there is no such program", async () => {
    await expect(run(["/no/such/program"])).rejects.toThrow(CommandError);
    expect(await succeeds(["/no/such/program"])).toBe(false);
  });

  it("ends what takes longer than it may", async () => {
    await expect(run(["sleep", "1000"], { timeoutMs: 50 })).rejects.toThrow("failed (killed)");
  });

  it("minds no program that does not read its input", async () => {
    expect(await run(["true"], { input: "x".repeat(1 << 20) })).toBe("");
  });
});

describe("waitFor", () => {
  it("asks until there is an answer", async () => {
    let asked = 0;
    const answer = await waitFor(async () => (++asked === 3 ? "yes" : undefined), {
      what: "an answer",
      timeoutMs: 5000,
      intervalMs: 1,
    });
    expect(answer).toBe("yes");
    expect(asked).toBe(3);
  });

  it("gives up after its time and says on what", async () => {
    const never = waitFor(async () => false, { what: "the moon", timeoutMs: 10, intervalMs: 1 });
    await expect(never).rejects.toThrow("waiting for the moon");
  });
});

describe("formatSeconds", () => {
  it.each([
    [5.4, "5 s"],
    [60, "1 min"],
    [90, "1 min 30 s"],
    [119.7, "2 min"],
  ])("writes %d as %s", (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });
});
