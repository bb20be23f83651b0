/** What of a schema says which fields there are; the same in JSON Schema, CustomResourceDefinitions and OpenAPI. */
export interface FieldSchema {
  readonly properties?: Readonly<Record<string, FieldSchema>>;
  readonly items?: FieldSchema;
  readonly additionalProperties?: FieldSchema | boolean;
  readonly enum?: readonly unknown[];
}

/** Parts of an object that a definition describes; the others are Kubernetes' own. */
const PARTS = ["spec", "status"];

/**
 * All that the objects of a kind may have in spec and status: each field (`spec.disks[].name`, `spec.nodeSelector{}` for
 * the values of a map), and each word that is allowed where words are listed (`spec.runStrategy=Always`).
 */
export function fieldPaths(kind: FieldSchema): string[] {
  return PARTS.flatMap((part) => walk(kind.properties?.[part] ?? {}, part));
}

/** A field, and what is below it. */
export function fieldsOf(path: string, below: readonly string[]): string[] {
  return [path, ...below.map((each) => path + each)];
}

function walk(schema: FieldSchema, path: string): string[] {
  const { properties = {}, items, additionalProperties } = schema;
  return [
    path,
    ...(schema.enum ?? []).map((word) => `${path}=${word}`),
    ...Object.entries(properties).flatMap(([name, each]) => walk(each, `${path}.${name}`)),
    ...(items === undefined ? [] : walk(items, `${path}[]`)),
    ...(typeof additionalProperties === "object" ? walk(additionalProperties, `${path}{}`) : []),
  ];
}
