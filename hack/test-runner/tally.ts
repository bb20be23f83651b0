/** What became of the tests of one tier. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The part of jest's `--json` report that counts. */
export interface JestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  /** Files that broke before their tests ran. */
  readonly numRuntimeErrorTestSuites: number;
}

/** With `strict` (CI) a test left out counts as failed. An exit code without a failed test is a failure as well. */
export function tallyJest(report: JestReport, exitCode: number, strict: boolean): Tally {
  const skipped = report.numPendingTests + report.numTodoTests;
  const failed = report.numFailedTests + report.numRuntimeErrorTestSuites + (strict ? skipped : 0);
  return {
    passed: report.numPassedTests,
    failed: exitCode !== 0 && failed === 0 ? 1 : failed,
    skipped: strict ? 0 : skipped,
  };
}

export function tallyCommands(exitCodes: readonly number[]): Tally {
  const passed = exitCodes.filter((code) => code === 0).length;
  return { passed, failed: exitCodes.length - passed, skipped: 0 };
}

export function addTallies(a: Tally, b: Tally): Tally {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}
