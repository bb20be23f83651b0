import { describe, expect, it } from "@jest/globals";
import { virtualMachine } from "./virtualmachine.ts";

const minimal = {
  apiVersion: "typevisor.io/v1alpha1",
  kind: "VirtualMachine",
  metadata: { name: "web" },
  spec: { memory: { size: "64Mi" } },
};

describe("virtualMachine", () => {
  it("fills in what the API server fills in", () => {
    expect(virtualMachine.parse(minimal).spec).toEqual({
      runStrategy: "Always",
      paused: false,
      cpu: { cores: 1, model: "Host" },
      memory: { size: "64Mi" },
      disks: [],
      evictionStrategy: "None",
      terminationGracePeriodSeconds: 120,
    });
  });

  it("refuses fields that it does not know", () => {
    const result = virtualMachine.safeParse({ ...minimal, spec: { ...minimal.spec, cpu: { sockets: 2 } } });
    expect(result.error?.issues).toMatchObject([
      { code: "unrecognized_keys", path: ["spec", "cpu"], keys: ["sockets"] },
    ]);
  });

  it("keeps what others wrote into metadata", () => {
    const metadata = { name: "web", managedFields: [{ manager: "kubectl" }] };
    expect(virtualMachine.parse({ ...minimal, metadata }).metadata).toEqual(metadata);
  });
});
