/** Exit codes of kubectl-vm; docs/kubectl-vm.md lists them, and `ssh` ends with ssh's own. */
export const exitCodes = {
  /** Done. */
  ok: 0,
  /** It did not work; the message says why. */
  failed: 1,
  /** Wrong usage, or a kubeconfig that cannot be used. */
  usage: 2,
  /** There is no such machine, or it has no pod now. */
  notFound: 3,
  /** The user lacks a right. */
  forbidden: 4,
  /** --wait ended at --timeout. */
  timeout: 5,
  /** The API server does not answer. */
  unreachable: 6,
  /** `doctor` found something that keeps machines from running. */
  unhealthy: 7,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A sentence for the person, with the way out, and the exit code. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = exitCodes.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}
