import type { ImportReason } from "../../api/import.ts";

/** Why an import cannot go on. The message names the figure that is wrong, and the way out. */
export class ImportError extends Error {
  readonly reason: ImportReason;

  constructor(reason: ImportReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ImportError";
    this.reason = reason;
  }
}
