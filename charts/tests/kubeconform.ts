/** kubeconform with the schemas of a running API server, so that nothing is fetched from the internet. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureKubeconform } from "../../hack/dev-cluster/tools/tools.ts";
import type { ApiServer } from "../../hack/lib/apiserver.ts";
import { run } from "../../hack/lib/step.ts";

type JsonSchema = Readonly<Record<string, unknown>>;

interface OpenApi {
  readonly definitions: Readonly<Record<string, JsonSchema>>;
}

interface GroupVersionKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

/** Writes a strict schema for each kind that the API server knows, named GROUP_VERSION_KIND.json. Builds kubeconform if need be. */
export async function writeSchemas(server: ApiServer, directory: string): Promise<void> {
  const { definitions } = (await server.request("GET", "/openapi/v2")).body as OpenApi;
  await ensureKubeconform();
  await mkdir(directory, { recursive: true });
  for (const [name, definition] of Object.entries(definitions)) {
    const kinds = (definition["x-kubernetes-group-version-kind"] ?? []) as readonly GroupVersionKind[];
    // What is in many groups (DeleteOptions and the like) is in no manifest.
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1) continue;
    const schema = { ...strict(definition), definitions: referenced(name, definitions) };
    // kubeconform calls the core group by its version.
    const file = `${kind.group || kind.version}_${kind.version}_${kind.kind.toLowerCase()}.json`;
    await writeFile(join(directory, file), JSON.stringify(schema));
  }
}

/** Rejects with what kubeconform says when a document of the manifest does not fit its schema, or has none. */
export async function kubeconform(manifest: string, schemas: string): Promise<string> {
  const location = join(schemas, "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json");
  const program = join(await ensureKubeconform(), "kubeconform");
  return run([program, "-strict", "-summary", "-schema-location", location, "-"], { input: manifest });
}

/** The definitions that `root` refers to, directly or not. */
function referenced(root: string, definitions: OpenApi["definitions"]): Record<string, JsonSchema> {
  const found: Record<string, JsonSchema> = {};
  const pending = [root];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    for (const [, next = ""] of JSON.stringify(definitions[name]).matchAll(/"#\/definitions\/([^"]+)"/g)) {
      if (next in found) continue;
      found[next] = strict(definitions[next] ?? {});
      pending.push(next);
    }
  }
  return found;
}

/** OpenAPI v2 leaves objects open, and calls text what may be a number as well. */
function strict(value: JsonSchema): JsonSchema;
function strict(value: unknown): unknown;
function strict(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => strict(item));
  if (typeof value !== "object" || value === null) return value;
  const schema = Object.fromEntries(Object.entries(value).map(([key, child]) => [key, strict(child)]));
  const isQuantity = String(schema["description"]).startsWith("Quantity is a fixed-point representation");
  if (schema["type"] === "string" && (schema["format"] === "int-or-string" || isQuantity)) {
    return { type: ["string", "number"] };
  }
  const isClosed =
    typeof schema["properties"] === "object" &&
    schema["additionalProperties"] === undefined &&
    schema["x-kubernetes-preserve-unknown-fields"] !== true;
  return isClosed ? { ...schema, additionalProperties: false } : schema;
}
