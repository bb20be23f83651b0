/** A migration that cannot be, or did not come to its end; the machine is where it was before. */
export class MigrationError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "MigrationError";
  }
}
