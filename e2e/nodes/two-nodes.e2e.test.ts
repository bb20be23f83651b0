import { afterAll, beforeAll, describe } from "@jest/globals";
import type { TestCluster } from "../support/cluster.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { migrationTests } from "./migration.ts";
import { networkPolicyTests } from "./network-policies.ts";
import { closeQemuCluster, openQemuCluster } from "./qemu-cluster.ts";
import { storageTests } from "./storage.ts";
import { vlanTests } from "./vlan.ts";
import { applyVolumes, NAMESPACE } from "./volumes.ts";

/** One file, since bringing the cluster up takes longer than what is done on it. */
describe("a cluster of two nodes", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openQemuCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    await applyVolumes(kubectl);
  }, 1_800_000);
  afterAll(closeQemuCluster, 200_000);

  storageTests(() => kubectl);
  migrationTests(() => ({ cluster, kubectl }));
  vlanTests(() => cluster);
  networkPolicyTests(() => cluster);
});
