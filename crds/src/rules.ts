import type { z } from "zod";

/**
 * One CEL rule of a schema node, as in `x-kubernetes-validations`.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
 */
export interface Rule {
  /** CEL; `self` is the value at the node. */
  readonly rule: string;
  /** Names the field and the way out. */
  readonly message: string;
  /** Child that the error is reported at, e.g. ".cloudInit"; the node itself when absent. */
  readonly fieldPath?: string;
}

/** Rule of an object: one of its fields `names` is given, and no second one. `what` begins the message. */
export function exactlyOneOf(what: string, names: readonly string[]): Rule {
  return {
    rule: `[${names.map((name) => `has(self.${name})`).join(", ")}].filter(given, given).size() == 1`,
    message: `${what} needs exactly one of ${names.join(", ")}`,
  };
}

/** The same schema with CEL rules that the API server checks. */
export function withRules<T extends z.ZodType>(schema: T, ...rules: readonly Rule[]): T {
  return schema.meta({ ...schema.meta(), "x-kubernetes-validations": rules });
}

/** A list whose entries are told apart by `keys`: duplicates are refused, and server-side apply merges entries. */
export function listMap<T extends z.ZodType>(schema: T, ...keys: readonly [string, ...string[]]): T {
  return schema.meta({ ...schema.meta(), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys });
}

/** An object or list that server-side apply replaces as a whole, as Pods mark theirs. */
export function atomic<T extends z.ZodType>(schema: T): T {
  const key = schema.type === "array" ? "x-kubernetes-list-type" : "x-kubernetes-map-type";
  return schema.meta({ ...schema.meta(), [key]: "atomic" });
}
