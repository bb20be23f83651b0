import { expect, it } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { accessTable, ROLES } from "../../hack/docs/access-table.ts";
import { render } from "./render.ts";

/** Building helm, where it was never built, takes a minute or two. */
const TIMEOUT_MS = 10 * 60_000;
const GROUP = "typevisor.io";

interface ClusterRole {
  readonly kind: string;
  readonly metadata: { readonly labels?: Readonly<Record<string, string>> };
  readonly rules?: readonly { readonly apiGroups: string[]; readonly resources: string[]; readonly verbs: string[] }[];
}

it(
  "the chart's roles add to view, edit and admin what docs/access.md says of its own kinds, and of all three of them",
  async () => {
    const rows = accessTable().filter(({ group }) => group === GROUP);
    const clusterRoles = parseAllDocuments(await render("default"))
      .map((document) => document.toJS() as ClusterRole | null)
      .filter((object) => object?.kind === "ClusterRole");
    const may = (role: string, verb: string, resource: string) =>
      clusterRoles
        .filter((each) => each?.metadata.labels?.[`rbac.authorization.k8s.io/aggregate-to-${role}`] === "true")
        .flatMap((each) => each?.rules ?? [])
        .some(
          ({ apiGroups, resources, verbs }) =>
            apiGroups.includes(GROUP) && resources.includes(resource) && verbs.includes(verb),
        );
    const answered = rows.map((row) => {
      const path = row.subresource === undefined ? row.resource : `${row.resource}/${row.subresource}`;
      return { ...row, answers: ROLES.map((role) => (may(role, row.verb, path) ? "yes" : "no")) };
    });
    expect(answered).toEqual(rows);
    for (const kind of ["virtualmachines", "virtualmachinemigrations", "virtualmachineimages"]) {
      const verbs = rows.filter(({ resource, subresource }) => resource === kind && subresource === undefined);
      const all = ["list", "watch", "create", "patch", "delete", "deletecollection"];
      expect(verbs.map(({ verb }) => verb).sort()).toEqual(all.sort());
    }
  },
  TIMEOUT_MS,
);
