import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import type { Command } from "commander";
import { parse } from "yaml";
import type { z } from "zod";
import { createProgram } from "../../cli/src/program.ts";
import { virtualMachine } from "../../crds/src/virtualmachine.ts";
import { virtualMachineImage } from "../../crds/src/virtualmachineimage.ts";
import { virtualMachineMigration } from "../../crds/src/virtualmachinemigration.ts";
import { manifests } from "./manifests.ts";
import { blocksOf, markdownFiles, readPage, repository } from "./markdown.ts";

const kinds: Readonly<Record<string, z.ZodType>> = {
  VirtualMachine: virtualMachine,
  VirtualMachineImage: virtualMachineImage,
  VirtualMachineMigration: virtualMachineMigration,
};

/** Of what kind a spec is that a page shows alone. */
function kindOf(spec: object): string {
  if ("virtualMachineName" in spec) return "VirtualMachineMigration";
  return "source" in spec ? "VirtualMachineImage" : "VirtualMachine";
}

/** The object that a page shows a part of. */
function completed({ spec, ...others }: { readonly spec?: object }): object {
  if (spec === undefined || Object.keys(others).length > 0) throw new Error("neither an object nor a spec");
  const kind = kindOf(spec);
  const needed = kind === "VirtualMachine" ? { memory: { size: "1Gi" } } : {};
  return { apiVersion: "typevisor.io/v1alpha1", kind, metadata: { name: "part" }, spec: { ...needed, ...spec } };
}

describe("the manifests in the pages", () => {
  const all = manifests();

  it("are many", () => {
    expect(all.length).toBeGreaterThan(20);
  });

  it.each(all.map(({ where, object }) => [where, object] as const))("%s is as its schema says", (_where, object) => {
    const whole = object.apiVersion === undefined ? completed(object) : object;
    const { apiVersion, kind } = whole as { readonly apiVersion: string; readonly kind: string };
    // Objects of Kubernetes are looked at by an API server: manifests.e2e.test.ts.
    if (!apiVersion.startsWith("typevisor.io/")) return;
    expect(kinds[kind]?.safeParse(whole).error?.message).toBeUndefined();
    expect(Object.keys(kinds)).toContain(kind);
  });
});

/**
 * What a reader would type: lines of blocks, those that end in a backslash joined with the next, without comments; and what
 * stands as code in the text.
 */
function commandsIn(file: string): string[] {
  const page = readPage(file);
  const inText = page.replaceAll(/^ *```[\s\S]*?^ *```/gm, "").matchAll(/`([^`\n]+)`/g);
  const inBlocks = blocksOf(page)
    .filter(({ language }) => language !== "yaml" && language !== "json")
    .flatMap(({ text }) => text.replaceAll(/\\\n\s*/g, "").split("\n"))
    .map((line) =>
      line
        .replace(/^\$ /, "")
        .replace(/\s+#.*$/, "")
        .trim(),
    );
  return [...new Set([...inBlocks, ...[...inText].map(([, code = ""]) => code)])];
}

/** The changelog tells of what is no more, too. */
const pages = markdownFiles().filter((file) => file !== "CHANGELOG.md");
const commands = pages.flatMap((file) => commandsIn(file).map((command) => [file, command] as const));

/** All that `pattern` finds in the commands, each once with its page. */
function found(pattern: RegExp): (readonly [file: string, match: string])[] {
  const lines = commands.flatMap(([file, command]) =>
    [...command.matchAll(pattern)].map(([whole, part]) => `${file}\n${part ?? whole}`),
  );
  return [...new Set(lines)].map((line) => line.split("\n") as [string, string]);
}

describe("the commands in the pages", () => {
  const values = parse(readFileSync(join(repository, "charts/typevisor/values.yaml"), "utf8")) as object;
  const sections = Object.keys(values).join("|");
  const settings = [
    ...found(/--set(?:-string)? ([\w.-]+)=/g),
    ...found(new RegExp(`^((?:${sections})\\.(?!md$|ts$|test\\.)[\\w.]+)(?:[:=].*)?$`, "g")),
  ];

  it.each(settings)("%s names %s, which is a value of the chart", (_file, key) => {
    let at: unknown = values;
    for (const name of key.split(".")) {
      // A map that is empty by default takes any key.
      if (typeof at === "object" && at !== null && Object.keys(at).length === 0) return;
      expect(at).toHaveProperty([name]);
      at = (at as Record<string, unknown>)[name];
    }
  });

  const ofPlugin = commands.filter(([, command]) => /^kubectl vm [a-z]/.test(command));
  const program = createProgram({ environment: {} as never, ended: () => {} });

  it.each(ofPlugin)("%s says '%s', which kubectl vm knows", (_file, line) => {
    const [, , name = "", ...words] = (line.split(" -- ")[0] ?? "").split(/\s+/);
    const command = program.commands.find((one) => one.name() === name);
    expect(command?.name()).toBe(name);
    expect(unknownOptions(words, [command, program])).toEqual([]);
  });

  function unknownOptions(words: readonly string[], known: readonly (Command | undefined)[]): string[] {
    const flags = known.flatMap((command) => command?.options ?? []).flatMap(({ short, long }) => [short, long]);
    return words.filter((word) => word.startsWith("-")).filter((word) => !flags.includes(word.split("=")[0]));
  }

  const files = found(/(?<![\w./-])(?:hack|examples|charts|operator|launcher|crds|cli|e2e)\/[\w./-]*\w/g).filter(
    ([, path]) => !path.includes("NAME"),
  );

  it.each(files)("%s names the file %s, which is there", (_file, path) => {
    expect(existsSync(join(repository, path))).toBe(true);
  });

  it("are looked at", () => {
    expect([settings, ofPlugin, files].every(({ length }) => length > 5)).toBe(true);
  });
});
