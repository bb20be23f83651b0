/** The launcher did not answer, answered with an error, or is not who it must be. */
export class LauncherError extends Error {
  override readonly name = "LauncherError";
  /** HTTP status; 0 when no answer came. */
  readonly statusCode: number;
  readonly code: string;

  constructor(statusCode: number, code: string, message: string) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
  }

  /** The state waited for was not reached in time: ask again. */
  get isTimeout(): boolean {
    return this.statusCode === 408;
  }
}
