/** A flag, environment variable or file given to the operator is wrong. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** The flag or variable, e.g. "--lease-name". */
  readonly setting: string;

  constructor(setting: string, message: string) {
    super(`${setting}: ${message}`);
    this.setting = setting;
  }
}
