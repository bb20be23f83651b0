import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { virtualMachineMigrationCrd } from "./generate/virtualmachinemigration-crd.ts";
import type { VirtualMachineMigrationStatus } from "./virtualmachinemigration.ts";

const collection = "/apis/typevisor.io/v1alpha1/namespaces/default/virtualmachinemigrations";
let server: ApiServer;
let count = 0;

beforeAll(async () => {
  server = await startApiServer();
  const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const created = await server.request("POST", definitions, { body: virtualMachineMigrationCrd() });
  expect(created).toMatchObject({ status: 201, warnings: [] });
  const served = () => server.request("GET", collection).then(({ status }) => status === 200);
  await waitFor(served, { what: "the API server to serve VirtualMachineMigrations", timeoutMs: 30_000 });
}, 30 * 60_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function create(spec: object) {
  count += 1;
  const body = {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineMigration",
    metadata: { name: `move-${count}` },
    spec,
  };
  return await server.request("POST", `${collection}?fieldValidation=Strict`, { body });
}

function patch(name: string, change: object, subresource = "") {
  const contentType = "application/merge-patch+json";
  return server.request("PATCH", `${collection}/${name}${subresource}`, { body: change, contentType });
}

const text = (body: unknown) => JSON.stringify(body).replaceAll('\\"', '"');

describe("a VirtualMachineMigration", () => {
  it("needs the machine's name only, and is the user's unless it says otherwise", async () => {
    const answer = await create({ virtualMachineName: "web" });
    expect(answer).toMatchObject({ status: 201, warnings: [], body: { spec: { priority: "User" } } });
  });

  it("is accepted with all that it takes", async () => {
    const answer = await create({
      virtualMachineName: "web",
      target: { nodeName: "node-2", nodeSelector: { "typevisor.io/fast": "yes" }, allowSourceNode: true },
      targetClaims: [
        { disk: "root", claimName: "root-2" },
        { disk: "data", claimName: "data-2" },
      ],
      bandwidth: "100Mi",
      maxDowntimeMilliseconds: 50,
      deadlineSeconds: 600,
      autoConverge: false,
      priority: "Drain",
      ttlSecondsAfterFinished: 0,
    });
    expect(answer).toMatchObject({ status: 201, warnings: [] });
  });

  it.each<[string, object, RegExp]>([
    ["no machine", {}, /spec.virtualMachineName: Required value/],
    ["a machine's name that none can have", { virtualMachineName: "Web" }, /virtualMachineName must be lower-case/],
    ["a bandwidth without a unit", { virtualMachineName: "a", bandwidth: "100" }, /at least 64Ki; was the unit/],
    ["no downtime at all", { virtualMachineName: "a", maxDowntimeMilliseconds: 0 }, /maxDowntimeMilliseconds/],
    ["a deadline of a month", { virtualMachineName: "a", deadlineSeconds: 2_592_000 }, /deadlineSeconds/],
    ["no target claims in the list", { virtualMachineName: "a", targetClaims: [] }, /targetClaims/],
    [
      "one target claim for two disks",
      {
        virtualMachineName: "a",
        targetClaims: [
          { disk: "root", claimName: "b" },
          { disk: "data", claimName: "b" },
        ],
      },
      /must not name one PersistentVolumeClaim twice/,
    ],
    [
      "two target claims for one disk",
      {
        virtualMachineName: "a",
        targetClaims: [
          { disk: "root", claimName: "b" },
          { disk: "root", claimName: "c" },
        ],
      },
      /targetClaims\[1\]: Duplicate value/,
    ],
    ["another priority", { virtualMachineName: "a", priority: "Now" }, /priority: Unsupported value: "Now"/],
    ["a field that there is not", { virtualMachineName: "a", node: "x" }, /unknown field "spec.node"/],
  ])("is refused with %s, which is named", async (_what, spec, message) => {
    const answer = await create(spec);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(text(answer.body)).toMatch(message);
  });

  it("can be changed while it waits, but not to another machine, and not once it has begun", async () => {
    await create({ virtualMachineName: "web" });
    const name = `move-${count}`;
    expect(await patch(name, { spec: { priority: "Drain" } })).toMatchObject({ status: 200 });
    const other = await patch(name, { spec: { virtualMachineName: "db" } });
    expect(text(other.body)).toMatch(/virtualMachineName cannot be changed/);
    const status: VirtualMachineMigrationStatus = { phase: "Preparing", startedAt: "2026-01-01T00:00:00Z" };
    expect(await patch(name, { status }, "/status")).toMatchObject({ status: 200 });
    const late = await patch(name, { spec: { priority: "Maintenance" } });
    expect(late.status).toBe(422);
    expect(text(late.body)).toMatch(/spec cannot be changed once the migration has begun: delete it, and create/);
    expect(await patch(name, { metadata: { labels: { a: "b" } } })).toMatchObject({ status: 200 });
    expect(await patch(name, { status: { phase: "Copying" } }, "/status")).toMatchObject({ status: 200 });
  });
});
