import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The cluster's roles, in the order of the table's columns. */
export const ROLES = ["view", "edit", "admin"] as const;

/** One row of the table of docs/access.md. */
export interface AccessRow {
  readonly what: string;
  readonly verb: string;
  /** As in a rule: RESOURCE[/SUBRESOURCE] with the group behind the resource's name, none for the core's. */
  readonly resource: string;
  readonly subresource: string | undefined;
  readonly group: string;
  /** "yes" or "no" for each of ROLES. */
  readonly answers: readonly string[];
}

const ROW = /^\| (.+) \| (\w+) \| ([\w./]+) \| (yes|no) \| (yes|no) \| (yes|no) \|$/gm;

/** What docs/access.md promises. */
export function accessTable(): AccessRow[] {
  const page = readFileSync(join(import.meta.dirname, "../../docs/access.md"), "utf8");
  return [...page.matchAll(ROW)].map(([, what = "", verb = "", target = "", ...answers]) => {
    const [path = "", subresource] = target.split("/");
    const [resource = "", ...group] = path.split(".");
    return { what, verb, resource, subresource, group: group.join("."), answers };
  });
}
