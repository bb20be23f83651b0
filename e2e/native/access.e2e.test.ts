import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import type { Kubectl } from "../support/kubectl.ts";

const page = readFileSync(join(import.meta.dirname, "../../docs/access.md"), "utf8");
const ROLES = ["view", "edit", "admin"] as const;
const NAMESPACE = "access";

/** Rows of the page's table: what, verb, resource, and yes or no for each role. */
const rows = [...page.matchAll(/^\| (.+) \| (\w+) \| ([\w./]+) \| (yes|no) \| (yes|no) \| (yes|no) \|$/gm)].map(
  ([, what = "", verb = "", target = "", ...answers]) => ({ what, verb, target, answers }),
);

describe("docs/access.md", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    for (const role of ROLES)
      await kubectl.run(["create", "rolebinding", role, `--clusterrole=${role}`, `--user=${role}-user`]);
  });
  afterAll(() => cluster.dropNamespace(NAMESPACE));

  it("says what the API server says of each role", async () => {
    expect(rows.length).toBeGreaterThan(10);
    const reviews = rows.flatMap((row) => ROLES.map((role) => reviewOf(row, `${role}-user`)));
    const list = { apiVersion: "v1", kind: "List", items: reviews };
    // A line for each review, in their order.
    const allowed = ["create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}'];
    const lines = (await kubectl.run(allowed, { input: JSON.stringify(list) })).trim().split("\n");
    expect(lines).toHaveLength(reviews.length);
    const said = rows.map(({ what, verb, target }, row) => ({
      what,
      verb,
      target,
      answers: ROLES.map((_, column) => (lines[row * ROLES.length + column] === "true" ? "yes" : "no")),
    }));
    expect(said).toEqual(rows);
  });
});

function reviewOf({ verb, target }: { readonly verb: string; readonly target: string }, user: string): object {
  const [path = "", subresource] = target.split("/");
  const [resource, ...group] = path.split(".");
  const resourceAttributes = { namespace: NAMESPACE, verb, resource, group: group.join("."), subresource };
  const spec = { user, groups: ["system:authenticated"], resourceAttributes };
  return { apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview", spec };
}
