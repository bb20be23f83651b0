/** A spec asks for something that no machine can be made of; the message names the field and the way out. */
export class SpecError extends Error {
  override readonly name = "SpecError";
  readonly field: string;

  constructor(field: string, message: string) {
    super(`${field} ${message}`);
    this.field = field;
  }
}
