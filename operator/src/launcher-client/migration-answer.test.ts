import { describe, expect, it } from "@jest/globals";
import { LauncherError } from "./launcher-error.ts";
import { parseMigration, parseMigrationResult } from "./migration-answer.ts";

const answer = (value: unknown, statusCode = 200) => ({ statusCode, body: JSON.stringify(value) });

describe("what a launcher says of its migration", () => {
  it("is taken as it is where it is sound", () => {
    const progress = {
      ...{ rounds: 2, sentBytes: 5, remainingBytes: 6, diskSentBytes: 7, diskRemainingBytes: 8 },
      ...{ bytesPerSecond: 9, dirtyBytesPerSecond: 10, throttle: 0.5 },
    };
    const source = { role: "source", id: "uid", phase: "Copying", message: "copies", progress };
    expect(parseMigration(answer(source))).toEqual(source);
    const none = { role: "none", phase: null, message: "no migration" };
    expect(parseMigration(answer(none))).toEqual(none);
  });

  it.each([
    ["no object", 7],
    ["another role", { role: "both", phase: "Copying" }],
    ["a target's phase of a source", { role: "source", phase: "Listening" }],
    ["a phase that there is not", { role: "target", phase: "__proto__" }],
  ])("is an error with %s", (_what, said) => {
    expect(() => parseMigration(answer(said))).toThrow(/something else than a migration/);
  });

  it("is the launcher's error with its code, so that who is too late knows it", () => {
    const late = () => parseMigration(answer({ error: { code: "Conflict", message: "it is too late" } }, 409));
    expect(late).toThrow(LauncherError);
    expect(late).toThrow("it is too late");
  });

  it("has no figures but sound ones", () => {
    const odd = { role: "source", phase: "Copying", progress: { rounds: -1, sentBytes: "many", throttle: 7 } };
    expect(parseMigration(answer(odd)).progress).toMatchObject({ rounds: 0, sentBytes: 0, throttle: 1 });
    expect(parseMigrationResult({ totalMs: 1 })).toBeUndefined();
    const result = parseMigrationResult({ totalMs: 1e300, downtimeMs: 21.5, split: { haltMs: Number.NaN } });
    expect(result).toMatchObject({ totalMs: 0, downtimeMs: 21.5, split: { haltMs: 0 } });
  });
});
