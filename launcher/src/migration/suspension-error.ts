/** A machine cannot be suspended, or not go on from where it was. */
export class SuspensionError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "SuspensionError";
  }
}
