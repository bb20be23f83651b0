import { describe, expect, it } from "@jest/globals";
import type { LogFields } from "../log/logger.ts";
import { LimitedLog } from "./limited-log.ts";

function setup() {
  const lines: (LogFields | undefined)[] = [];
  const ignore = () => {};
  let nowMs = 5;
  const sink = {
    debug: ignore,
    info: ignore,
    error: ignore,
    warn: (_: string, fields?: LogFields) => lines.push(fields),
  };
  const log = new LimitedLog(sink, () => nowMs);
  const warn = (count: number) => {
    for (let i = 0; i < count; i++) log.warn("again", { device: "disk" });
  };
  const wait = (ms: number) => {
    nowMs += ms;
  };
  return { lines, warn, wait };
}

describe("a log that guests can write to", () => {
  it("takes ten lines at once and then one in ten seconds", () => {
    const { lines, warn, wait } = setup();
    warn(1000);
    expect(lines.length).toBe(10);
    wait(9_999);
    warn(1);
    expect(lines.length).toBe(10);
    wait(1);
    warn(5);
    expect(lines.length).toBe(11);
  });

  it("says how many lines it left out", () => {
    const { lines, warn, wait } = setup();
    warn(13);
    wait(10_000);
    warn(1);
    expect(lines.at(0)).toEqual({ device: "disk" });
    expect(lines.at(-1)).toEqual({ device: "disk", suppressed: 3 });
    wait(10_000);
    warn(1);
    expect(lines.at(-1)).toEqual({ device: "disk" });
  });

  it("saves up no more than ten lines", () => {
    const { lines, warn, wait } = setup();
    wait(3_600_000);
    warn(100);
    expect(lines.length).toBe(10);
  });
});
