import { z } from "zod";
import { withRules } from "./rules.ts";

/** A Kubernetes quantity, e.g. "512Mi", "1.5Gi", "100m" or 1073741824. */
export type Quantity = string | number;

/** Longest quantity in characters, of those that rules look into: it bounds what a rule can cost. */
const QUANTITY_MAX_LENGTH = 32;

/** A quantity as Pods take it, text or number. `field` is how messages call it. CEL sees it as `string(self)`. */
export function quantity(field: string, description: string) {
  return withRules(anyQuantity(description), {
    rule: "isQuantity(string(self))",
    message: `${field} must be a quantity, such as 500m or 2 for CPU, 512Mi or 2Gi for memory and storage`,
  });
}

/**
 * Bytes as text with a unit: `minimum` or more, `maximum` or less, and a multiple of `stepBytes`.
 * Not a number: a size whose unit was forgotten is an error of type, and YAML tools do not turn it into 1e+09.
 */
export function byteQuantity(
  field: string,
  bounds: { readonly minimum: string; readonly maximum: string; readonly stepBytes: number },
  description: string,
) {
  const { minimum, maximum, stepBytes } = bounds;
  const notBelow = `quantity(self).compareTo(quantity('${minimum}')) >= 0`;
  const notAbove = `quantity(self).compareTo(quantity('${maximum}')) <= 0`;
  // Each rule holds where one before it fails: one mistake, one message.
  return withRules(
    z.string().min(1).max(QUANTITY_MAX_LENGTH).describe(description),
    { rule: "isQuantity(self)", message: `${field} must be a quantity of bytes, such as 512Mi or 2Gi` },
    {
      rule: `!isQuantity(self) || ${notBelow}`,
      message: `${field} must be at least ${minimum}; was the unit (Mi, Gi) left out?`,
    },
    { rule: `!isQuantity(self) || ${notAbove}`, message: `${field} must be at most ${maximum}` },
    {
      rule: `!isQuantity(self) || !(${notBelow} && ${notAbove}) || (quantity(self).isInteger() && quantity(self).asInteger() % ${stepBytes} == 0)`,
      message: `${field} must be a multiple of ${formatBytes(stepBytes)}; write it with Mi or Gi, not M or G`,
    },
  );
}

/** A quantity without rules, for status. */
export function anyQuantity(description: string) {
  return z.union([z.int(), z.string()]).meta({ "x-kubernetes-int-or-string": true }).describe(description);
}

const binaryUnits = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const multipliers: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  ...Object.fromEntries(binaryUnits.slice(1).map((unit, index) => [unit, 1024 ** (index + 1)])),
};

export class QuantityError extends Error {
  readonly quantity: Quantity;

  constructor(quantity: Quantity) {
    super(`"${quantity}" is not a Kubernetes quantity such as 512Mi or 100m`);
    this.name = "QuantityError";
    this.quantity = quantity;
  }
}

/**
 * The number that a quantity stands for: bytes for memory, cores for CPU. Exact up to 2^53.
 * Syntax: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
 */
export function parseQuantity(quantity: Quantity): number {
  if (typeof quantity === "number") return quantity;
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?\d+))$/.exec(quantity);
  if (match === null) throw new QuantityError(quantity);
  const [, digits, unit, exponent] = match;
  if (exponent !== undefined) return Number(`${digits}e${exponent}`);
  return Number(digits) * (multipliers[unit ?? ""] ?? Number.NaN);
}

/** Whole bytes as the shortest binary quantity without loss: 1073741824 is "1Gi", 1025 is "1025". */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value !== 0 && value % 1024 === 0 && unit < binaryUnits.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value}${binaryUnits[unit]}`;
}
