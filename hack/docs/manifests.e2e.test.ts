import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { stringify } from "yaml";
import { virtualMachineCrd } from "../../crds/src/generate/virtualmachine-crd.ts";
import { virtualMachineImageCrd } from "../../crds/src/generate/virtualmachineimage-crd.ts";
import { virtualMachineMigrationCrd } from "../../crds/src/generate/virtualmachinemigration-crd.ts";
import { type ApiServer, startApiServer } from "../lib/apiserver.ts";
import { examples, manifests } from "./manifests.ts";

/** Groups of which the API server has no definitions. */
const FOREIGN = /^snapshot\.storage\.k8s\.io\//;

let server: ApiServer;

beforeAll(async () => {
  server = await startApiServer();
  const crds = [virtualMachineCrd(), virtualMachineImageCrd(), virtualMachineMigrationCrd()];
  await server.kubectl(["create", "-f", "-"], crds.map((crd) => stringify(crd)).join("---\n"));
  await server.kubectl(["wait", "crd", "--all", "--for=condition=Established", "--timeout=60s"]);
  await server.kubectl(["create", "namespace", "argocd"]);
}, 30 * 60_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("an API server", () => {
  const whole = [...manifests(), ...examples()].filter(({ object }) => object.apiVersion !== undefined);
  const known = whole.filter(({ object }) => !FOREIGN.test(object.apiVersion ?? ""));

  it.each(known.map(({ where, object }) => [where, object] as const))("takes %s", async (_where, object) => {
    const answer = await server.kubectl(
      ["create", "--dry-run=server", "--validate=strict", "-f", "-"],
      stringify(object),
    );
    expect(answer).toContain("created (server dry run)");
  });
});
