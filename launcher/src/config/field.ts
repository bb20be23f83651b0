import { printableAscii } from "../log/error-text.ts";

/** machine.json is unreadable or wrong; `field` is the path of the value at fault, "" for the file as a whole. */
export class ConfigInvalid extends Error {
  readonly field: string;
  /** What follows the field's name. */
  readonly problem: string;
  constructor(field: string, problem: string) {
    super(field === "" ? `machine.json ${problem}` : `machine.json: ${field} ${problem}`);
    this.name = "ConfigInvalid";
    this.field = field;
    this.problem = problem;
  }
}

export interface IntegerRule {
  readonly min: number;
  readonly max: number;
  readonly multipleOf?: number;
}

export interface StringRule {
  readonly maxBytes: number;
  /** The whole string must match. */
  readonly pattern?: RegExp;
  /** What a right value is, as the end of "give ...". */
  readonly wanted: string;
}

/** One value of a JSON document with its path. Each reading method answers the typed value or throws ConfigInvalid. */
export class Field {
  readonly path: string;
  readonly #value: unknown;

  constructor(path: string, value: unknown) {
    this.path = path;
    this.#value = value;
  }

  get present(): boolean {
    return this.#value !== undefined;
  }

  fail(problem: string): never {
    throw new ConfigInvalid(this.path, problem);
  }

  /** The members of an object that has no other fields than `known`. */
  object<Name extends string>(known: readonly Name[]): Readonly<Record<Name, Field>> {
    const value = this.#value;
    if (typeof value !== "object" || value === null || Array.isArray(value))
      this.#wrongType(`an object with the fields ${known.join(", ")}`);
    const prefix = this.path === "" ? "" : `${this.path}.`;
    for (const name of Object.keys(value)) {
      if (!(known as readonly string[]).includes(name))
        new Field(prefix + shortened(name), undefined).fail(
          `is not a known field; remove it or use one of ${known.join(", ")}`,
        );
    }
    const members = {} as Record<Name, Field>;
    for (const name of known)
      members[name] = new Field(prefix + name, Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined);
    return members;
  }

  /** One member, whatever the others are: for the field that says which others there may be. */
  loose(name: string): Field {
    const value = this.#value;
    if (typeof value !== "object" || value === null || Array.isArray(value))
      this.#wrongType(`an object with the field ${name}`);
    const path = this.path === "" ? name : `${this.path}.${name}`;
    return new Field(path, Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined);
  }

  array(maxLength: number): readonly Field[] {
    const value = this.#value;
    if (!Array.isArray(value)) this.#wrongType("a list");
    if (value.length > maxLength) this.fail(`has ${value.length} entries; give at most ${maxLength}`);
    return value.map((item, index) => new Field(`${this.path}[${index}]`, item));
  }

  boolean(): boolean {
    if (typeof this.#value !== "boolean") this.#wrongType("true or false");
    return this.#value;
  }

  integer(rule: IntegerRule): number {
    const { min, max, multipleOf = 1 } = rule;
    const step = multipleOf === 1 ? "a whole number" : `a multiple of ${multipleOf}`;
    const wanted = `${step} from ${min} to ${max}`;
    const value = this.#value;
    if (typeof value !== "number") this.#wrongType(wanted);
    if (!Number.isSafeInteger(value) || value < min || value > max || value % multipleOf !== 0)
      this.fail(`is ${value}; give ${wanted}`);
    return value;
  }

  string(rule: StringRule): string {
    const value = this.#value;
    if (typeof value !== "string") this.#wrongType(rule.wanted);
    if (Buffer.byteLength(value) > rule.maxBytes)
      this.fail(`is ${Buffer.byteLength(value)} bytes long; give ${rule.wanted} of at most ${rule.maxBytes} bytes`);
    if (value.includes("\0") || (rule.pattern !== undefined && !rule.pattern.test(value)))
      this.fail(`is ${printable(value)}; give ${rule.wanted}`);
    return value;
  }

  oneOf<Value extends string | number>(values: readonly Value[]): Value {
    const found = values.find((value) => value === this.#value);
    if (found !== undefined) return found;
    const wanted = values.length === 1 ? `${values[0]}` : `one of ${values.join(", ")}`;
    if (!this.present) this.#wrongType(wanted);
    return this.fail(`is ${printable(this.#value)}; give ${wanted}`);
  }

  #wrongType(wanted: string): never {
    if (!this.present) this.fail(this.path === "" ? `is empty; give ${wanted}` : `is missing; give ${wanted}`);
    this.fail(`is ${printable(this.#value)}; give ${wanted}`);
  }
}

const PRINTED_MAX_CHARS = 80;

/** A value as it may stand in a log line: JSON, ASCII, short. */
function printable(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" && value !== null ? "an object" : shortened(JSON.stringify(value));
}

function shortened(text: string): string {
  const ascii = printableAscii(text);
  return ascii.length > PRINTED_MAX_CHARS ? `${ascii.slice(0, PRINTED_MAX_CHARS)}...` : ascii;
}
