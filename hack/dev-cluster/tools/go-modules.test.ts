import { describe, expect, it } from "@jest/globals";
import { modulesOf, sharedWithKubernetes } from "./go-modules.ts";
import { versions } from "./versions.ts";

describe("what clusters need beside Kubernetes", () => {
  it.each([
    ["helm", "helm.sh/helm/v3", versions.helm],
    ["storage", "github.com/rancher/local-path-provisioner", versions.localPathProvisioner],
  ])(
    "%s is built of the modules that Kubernetes is built of, which are compiled once",
    (directory, module, version) => {
      expect(modulesOf(directory).get(module)).toBe(`v${version}`);
      const { shared, others } = sharedWithKubernetes(directory);
      expect(shared.length).toBeGreaterThan(40);
      expect(others).toEqual([]);
    },
  );
});
