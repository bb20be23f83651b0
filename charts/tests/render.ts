/** Renders of the chart with each set of values in this folder; `NAME.values.yaml` goes with `NAME.golden.yaml`. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ensureHelm } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";

export const chartDirectory = join(import.meta.dirname, "../typevisor");

/**
 * The chart before this one: until there is a release, the one of commit ec498eb as version 0.0.1. A release puts a copy of
 * its own here; a shallow clone has no history to take it from.
 */
export const previousChart = join(import.meta.dirname, "previous/typevisor");

/** Release and namespace of all renders. */
export const release = { name: "typevisor", namespace: "typevisor-system" } as const;

export const valueSets: readonly string[] = readdirSync(import.meta.dirname)
  .flatMap((file) => /^(.*)\.values\.yaml$/.exec(file)?.[1] ?? [])
  .sort();

export function valuesFile(valueSet: string): string {
  return join(import.meta.dirname, `${valueSet}.values.yaml`);
}

/** The CustomResourceDefinition is left out: it has a golden file of its own. */
export function goldenFile(valueSet: string): string {
  return join(import.meta.dirname, `${valueSet}.golden.yaml`);
}

export function readGolden(valueSet: string): string {
  return readFileSync(goldenFile(valueSet), "utf8");
}

export async function helm(...args: readonly string[]): Promise<string> {
  return run([join(await ensureHelm(), "helm"), ...args]);
}

/** What `helm template` gives for the value set and further arguments. */
export function render(valueSet: string, ...args: readonly string[]): Promise<string> {
  const { name, namespace } = release;
  const values = ["--values", valuesFile(valueSet)];
  return helm("template", name, chartDirectory, "--namespace", namespace, "--kube-version=1.37.0", ...values, ...args);
}

/** A render as its golden file has it: documents of the CRD template are left out. */
export function withoutCrds(rendered: string): string {
  const documents = rendered.split(/^---\n/m);
  return documents.filter((document) => !document.startsWith("# Source: typevisor/templates/crds/")).join("---\n");
}
