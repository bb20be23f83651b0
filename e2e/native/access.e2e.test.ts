import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { type AccessRow, accessTable, ROLES } from "../../hack/docs/access-table.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import type { Kubectl } from "../support/kubectl.ts";

const NAMESPACE = "access";

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
    const rows = accessTable();
    expect(rows.length).toBeGreaterThan(25);
    const reviews = rows.flatMap((row) => ROLES.map((role) => reviewOf(row, `${role}-user`)));
    const list = { apiVersion: "v1", kind: "List", items: reviews };
    // A line for each review, in their order.
    const allowed = ["create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}'];
    const lines = (await kubectl.run(allowed, { input: JSON.stringify(list) })).trim().split("\n");
    expect(lines).toHaveLength(reviews.length);
    const said = rows.map((row, at) => ({
      ...row,
      answers: ROLES.map((_, column) => (lines[at * ROLES.length + column] === "true" ? "yes" : "no")),
    }));
    expect(said).toEqual(rows);
  });
});

function reviewOf({ verb, resource, group, subresource }: AccessRow, user: string): object {
  const resourceAttributes = { namespace: NAMESPACE, verb, resource, group, subresource };
  const spec = { user, groups: ["system:authenticated"], resourceAttributes };
  return { apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview", spec };
}
