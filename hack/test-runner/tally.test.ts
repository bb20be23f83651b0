import { describe, expect, it } from "@jest/globals";
import { addTallies, tallyCommands, tallyJest } from "./tally.ts";

const report = {
  numPassedTests: 5,
  numFailedTests: 0,
  numPendingTests: 0,
  numTodoTests: 0,
  numRuntimeErrorTestSuites: 0,
};

describe("the tally of a tier", () => {
  it("counts what jest counted", () => {
    expect(tallyJest({ ...report, numFailedTests: 2 }, 1, true)).toEqual({ passed: 5, failed: 2, skipped: 0 });
  });

  it("counts a file that broke before its tests as a failure", () => {
    expect(tallyJest({ ...report, numRuntimeErrorTestSuites: 1 }, 1, false).failed).toBe(1);
  });

  it("counts a test left out as a failure in CI and as skipped elsewhere", () => {
    const withSkipped = { ...report, numPendingTests: 2, numTodoTests: 1 };
    expect(tallyJest(withSkipped, 0, true)).toEqual({ passed: 5, failed: 3, skipped: 0 });
    expect(tallyJest(withSkipped, 0, false)).toEqual({ passed: 5, failed: 0, skipped: 3 });
  });

  it("does not take a bad exit code for success", () => {
    expect(tallyJest(report, 1, false).failed).toBe(1);
  });

  it("counts commands by their exit codes", () => {
    expect(tallyCommands([0, 1, 0])).toEqual({ passed: 2, failed: 1, skipped: 0 });
  });

  it("adds to that of others", () => {
    const other = { passed: 4, failed: 5, skipped: 6 };
    expect(addTallies({ passed: 1, failed: 2, skipped: 3 }, other)).toEqual({ passed: 5, failed: 7, skipped: 9 });
  });
});
