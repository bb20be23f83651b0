/** Bytes that are not what they should be. Whoever sent them is at fault; nothing was done with them. */
export class CodecError extends Error {
  /** The field at fault, such as "queues[1].size"; empty for the whole. */
  readonly field: string;
  readonly problem: string;

  constructor(problem: string, field = "") {
    super(field === "" ? problem : `${field}: ${problem}`);
    this.name = "CodecError";
    this.field = field;
    this.problem = problem;
  }

  /** The same error of a field inside `outer`, which is a name or an index. */
  inside(outer: string): CodecError {
    const separator = this.field === "" || this.field.startsWith("[") ? "" : ".";
    return new CodecError(this.problem, `${outer}${separator}${this.field}`);
  }
}
