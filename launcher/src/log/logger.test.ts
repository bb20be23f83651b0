import { describe, expect, it } from "@jest/globals";
import { jsonLogger } from "./logger.ts";

describe("the JSON logger", () => {
  it("writes one object a line, with its context and its own fields", () => {
    const lines: string[] = [];
    jsonLogger("info", { name: "web" }, (line) => lines.push(line)).info("machine runs", { reason: "Started" });
    expect(lines).toHaveLength(1);
    const { time, ...rest } = JSON.parse(lines[0] ?? "");
    expect(rest).toEqual({ level: "info", msg: "machine runs", name: "web", reason: "Started" });
    expect(new Date(time).toISOString()).toBe(time);
  });

  it("leaves out what is below its level", () => {
    const lines: string[] = [];
    const log = jsonLogger("warn", {}, (line) => lines.push(line));
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
    expect(lines.map((line) => JSON.parse(line).msg)).toEqual(["c", "d"]);
  });

  it("cannot be made to write a second line or a terminal escape by what it is given", () => {
    const lines: string[] = [];
    jsonLogger("info", {}, (line) => lines.push(line)).info('x\n{"level":"error"}\u001b[2J');
    expect(lines.join("")).toMatch(/^[\x20-\x7e]+\n$/);
  });
});
