import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Versions by module, as the go.mod of a directory of the dev cluster names them; what it replaces, by what is taken. */
export function modulesOf(directory: string): Map<string, string> {
  const text = readFileSync(join(import.meta.dirname, "..", directory, "go.mod"), "utf8");
  const lines = text.matchAll(/^(?:\t|require )([a-z][^\s]*\.[^\s]+) (v[^\s]+)/gm);
  const replaced = text.matchAll(/^replace (\S+) => \1 (v\S+)/gm);
  return new Map([...lines, ...replaced].map(([, name = "", version = ""]) => [name, version]));
}

/** Modules that Kubernetes is built of as well, and those among them of another version: they are compiled once more. */
export function sharedWithKubernetes(directory: string): { readonly shared: string[]; readonly others: string[] } {
  const [own, kube] = [modulesOf(directory), modulesOf("kube")];
  const shared = [...own.keys()].filter((name) => kube.has(name));
  return { shared, others: shared.filter((name) => own.get(name) !== kube.get(name)) };
}
