/** From a zod schema to the structural schema that a CustomResourceDefinition takes. */
import { z } from "zod";
import type { Rule } from "../rules.ts";

/**
 * The part of JSON Schema that the API uses, as CustomResourceDefinitions have it.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
 */
export interface StructuralSchema {
  description?: string;
  type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  format?: string;
  default?: unknown;
  enum?: readonly string[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  anyOf?: readonly StructuralSchema[];
  required?: readonly string[];
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema;
  items?: StructuralSchema;
  "x-kubernetes-int-or-string"?: true;
  "x-kubernetes-list-type"?: "map" | "set" | "atomic";
  "x-kubernetes-list-map-keys"?: readonly string[];
  "x-kubernetes-map-type"?: "atomic" | "granular";
  "x-kubernetes-validations"?: readonly Rule[];
}

/** Keys in the order in which a person reads them. */
const keyOrder: readonly (keyof StructuralSchema)[] = [
  "description",
  "type",
  "format",
  "default",
  "enum",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "maxProperties",
  "anyOf",
  "required",
  "properties",
  "additionalProperties",
  "items",
  "x-kubernetes-int-or-string",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
  "x-kubernetes-validations",
];

export class SchemaError extends Error {
  /** Where in the schema: names of properties, `[]` for items, `{}` for values of a map. */
  readonly path: string;

  constructor(path: string, problem: string) {
    super(`${path || "the schema"}: ${problem}`);
    this.name = "SchemaError";
    this.path = path;
  }
}

type JsonSchema = Readonly<Record<string, unknown>>;

/** The structural schema of what a user may write. Throws SchemaError on what structural schemas cannot say. */
export function structuralSchema(schema: z.ZodType): StructuralSchema {
  return convert(z.toJSONSchema(schema, { target: "openapi-3.0", io: "input" }) as JsonSchema, "");
}

function convert(json: JsonSchema, path: string): StructuralSchema {
  const result: StructuralSchema = {};
  for (const key of Object.keys(json).filter((key) => !dropped(key, json))) {
    if (!(keyOrder as readonly string[]).includes(key)) throw new SchemaError(path, `"${key}" is not structural`);
  }
  for (const key of keyOrder) {
    const value = json[key];
    if (value === undefined || dropped(key, json)) continue;
    Object.assign(result, { [key]: convertValue(key, value, path) });
  }
  if (result["x-kubernetes-int-or-string"]) result.anyOf = [{ type: "integer" }, { type: "string" }];
  else if (result.anyOf !== undefined)
    throw new SchemaError(path, "a union is not structural: use optional fields and a rule");
  else if (result.type === undefined) throw new SchemaError(path, "a type is missing");
  return result;
}

/** zod bounds integers by what JavaScript counts exactly, and closes objects: a CRD does without both. */
function dropped(key: string, json: JsonSchema): boolean {
  const value = json[key];
  if (key === "additionalProperties") return typeof value === "boolean" || json["properties"] !== undefined;
  if (key === "propertyNames") return JSON.stringify(value) === '{"type":"string"}';
  if (key === "minimum") return value === Number.MIN_SAFE_INTEGER;
  if (key === "maximum") return value === Number.MAX_SAFE_INTEGER;
  return key === "$schema";
}

function convertValue(key: string, value: unknown, path: string): unknown {
  switch (key) {
    case "properties":
      return Object.fromEntries(
        Object.entries(value as Record<string, JsonSchema>).map(([name, child]) => [
          name,
          convert(child, path === "" ? name : `${path}.${name}`),
        ]),
      );
    case "items":
      return convert(value as JsonSchema, `${path}[]`);
    case "additionalProperties":
      return convert(value as JsonSchema, `${path}{}`);
    default:
      return value;
  }
}

/** The node at `path`: dots between fields, `[]` for a list's entries, e.g. "spec.disks[]". */
export function nodeAt(root: StructuralSchema, path: string): StructuralSchema {
  let node: StructuralSchema | undefined = root;
  for (const step of path.replaceAll("[]", ".[]").split(".").filter(Boolean)) {
    node = step === "[]" ? node?.items : node?.properties?.[step];
  }
  if (node === undefined) throw new SchemaError(path, "there is no such field");
  return node;
}

/** Calls `visit` with each node below `root` and its path, parents first. */
export function walk(root: StructuralSchema, visit: (node: StructuralSchema, path: string) => void, path = ""): void {
  visit(root, path);
  for (const [name, child] of Object.entries(root.properties ?? {}))
    walk(child, visit, path === "" ? name : `${path}.${name}`);
  if (root.items !== undefined) walk(root.items, visit, `${path}[]`);
  if (root.additionalProperties !== undefined) walk(root.additionalProperties, visit, `${path}{}`);
}
