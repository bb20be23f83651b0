import { fieldPaths } from "../field-paths.ts";
import type { CustomResourceDefinition } from "./custom-resource.ts";

/** Fewer than these are written out each time. */
const SHARED_MIN = 20;

/** For the operator, which does not carry the schemas with it. What several fields have below them is written once. */
export function knownFields(crds: readonly CustomResourceDefinition[]): string {
  const kinds = crds.map(({ spec }) => ({
    kind: spec.names.kind,
    paths: spec.versions.flatMap(({ schema }) => fieldPaths(schema.openAPIV3Schema)),
  }));
  const shared = new SharedFields(kinds.map(({ paths }) => paths));
  const entries = kinds.map(({ kind, paths }) => `  ${kind}: [\n${shared.linesOf(paths)}  ],\n`);
  return `// Generated from crds/src by hack/generate; do not edit.
import { fieldsOf } from "./field-paths.ts";

${shared.lists()}/** What this version's objects may have, by kind; see fieldPaths. */
export const knownFields: Readonly<Record<string, readonly string[]>> = {
${entries.join("")}};
`;
}

class SharedFields {
  /** How many fields have the same below them. */
  readonly #counts = new Map<string, number>();
  /** Names of those that were used, by what is below. */
  readonly #names = new Map<string, string>();

  constructor(kinds: readonly (readonly string[])[]) {
    for (const paths of kinds) {
      for (const at of paths.keys()) {
        const key = belowAt(paths, at).join("\n");
        this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      }
    }
  }

  linesOf(paths: readonly string[]): string {
    let text = "";
    for (let at = 0; at < paths.length; at++) {
      const path = paths[at] ?? "";
      const below = belowAt(paths, at);
      if (below.length < SHARED_MIN || (this.#counts.get(below.join("\n")) ?? 0) < 2) {
        text += line(path, "    ");
        continue;
      }
      text += `    ...fieldsOf(${JSON.stringify(path)}, ${this.#nameOf(below.join("\n"), path)}),\n`;
      at += below.length;
    }
    return text;
  }

  lists(): string {
    const lists = [...this.#names].map(([key, name]) => {
      const paths = key.split("\n").map((path) => line(path, "  "));
      return `const ${name} = [\n${paths.join("")}];\n\n`;
    });
    return lists.join("");
  }

  /** After the first field that has it. */
  #nameOf(key: string, path: string): string {
    const word = /\w+(?=\W*$)/.exec(path)?.[0] ?? "fields";
    const taken = [...this.#names.values()].filter((name) => name.replace(/\d+$/, "") === word).length;
    const name = this.#names.get(key) ?? `${word}${taken === 0 ? "" : taken + 1}`;
    this.#names.set(key, name);
    return name;
  }
}

function line(path: string, indent: string): string {
  return `${indent}${JSON.stringify(path)},\n`;
}

/** What is below the field at that place, without its own path. */
function belowAt(paths: readonly string[], at: number): string[] {
  const path = paths[at] ?? "";
  const after = paths.slice(at + 1);
  const end = after.findIndex((each) => !each.startsWith(path) || !/^[.[{=]/.test(each.slice(path.length)));
  return (end === -1 ? after : after.slice(0, end)).map((each) => each.slice(path.length));
}
