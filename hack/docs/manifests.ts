/** Manifests that readers take: YAML blocks of pages, and the examples. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { blocksOf, markdownFiles, readPage, repository } from "./markdown.ts";

export interface Manifest {
  /** File and line of its block. */
  readonly where: string;
  readonly object: { readonly apiVersion?: string; readonly kind?: string; readonly spec?: object };
}

/** Where a page leaves a value out, something of its form. */
const LEFT_OUT: Readonly<Record<string, string>> = { sha512: "a".repeat(128), reference: "registry.example/debian:13" };

/** What the pages show. */
export function manifests(): Manifest[] {
  return markdownFiles().flatMap((file) =>
    blocksOf(readPage(file))
      .filter(({ language }) => language === "yaml")
      .flatMap(({ text, line }) => parsed(text, `${file}:${line}`)),
  );
}

/** The files that they lead to. */
export function examples(): Manifest[] {
  return readdirSync(join(repository, "examples")).flatMap((file) =>
    parsed(readFileSync(join(repository, "examples", file), "utf8"), `examples/${file}`),
  );
}

function parsed(text: string, where: string): Manifest[] {
  return parseAllDocuments(text).map((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new Error(`${where}: ${error.message}`);
    const object = document.toJS({ reviver: filledIn }) as Manifest["object"];
    return { where: `${where} ${object.kind ?? "part"}`, object };
  });
}

function filledIn(key: unknown, value: unknown): unknown {
  return value === "..." ? LEFT_OUT[String(key)] : value;
}
