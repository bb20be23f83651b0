import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { podOf, TEST_GUEST_IMAGE, testGuest } from "../support/vm.ts";

const image = { reference: TEST_GUEST_IMAGE };

describe("bad input", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("bad-input");
  });
  afterAll(() => cluster.dropNamespace("bad-input"));

  /** Events are written a moment after the status. */
  const hasEvent = (name: string, reason: string) =>
    eventually(`event ${reason} of ${name}`, 30_000, async () =>
      (await kubectl.events(name)).some((event) => event.type === "Warning" && event.reason === reason),
    );

  describe("is refused at once, with the field and the way out", () => {
    it.each([
      ["an unknown field", { coffee: "black" }, /unknown field "spec\.coffee"/],
      ["0 cores", { cpu: { cores: 0 } }, /spec\.cpu\.cores.*greater than or equal to 1/s],
      ["4096 cores", { cpu: { cores: 4096 } }, /spec\.cpu\.cores.*less than or equal to 64/s],
      ["1 KiB of memory", { memory: { size: "1Ki" } }, /spec\.memory\.size.*16Mi/s],
      ["no boot source", { boot: undefined }, /spec\.boot\.kernel is required/],
      ["a path out of the image", { boot: { kernel: { image, path: "/boot/../../etc/shadow" } } }, /path/],
      [
        "an empty disk that stays empty",
        { disks: [{ name: "d", readOnly: true, emptyDisk: { size: "1Gi" } }] },
        /readOnly makes no sense with emptyDisk.*remove readOnly/,
      ],
      [
        "two interfaces on the pod network",
        {
          interfaces: [
            { name: "one", masquerade: {} },
            { name: "two", podIP: {} },
          ],
        },
        /at most one of masquerade and podIP/,
      ],
    ])("%s", async (_name, spec, message) => {
      expect(await kubectl.refused(testGuest("refused", spec as object))).toMatch(message);
      expect(await kubectl.get("vm", "refused")).toBeNull();
    });
  });

  describe("that only shows later gives a condition and an event, and is mended by a correction", () => {
    it("more memory than any node has", async () => {
      await kubectl.apply(testGuest("huge", { memory: { size: "8Ti" } }));
      const ready = await kubectl.vmCondition("huge", "Ready", "False", "Unschedulable");
      expect(ready.message).toMatch(/memory/i);
      await hasEvent("huge", "Unschedulable");
      await kubectl.apply(testGuest("huge"));
      await kubectl.waitFor("vm", "huge", "condition=Ready");
    });

    it("an image that does not exist", async () => {
      const reference = "docker.io/typevisor/missing:dev";
      const boot = { kernel: { image: { reference, pullPolicy: "Never" as const }, path: "/boot/testguest" } };
      await kubectl.apply(testGuest("no-image", { boot }));
      const ready = await kubectl.vmCondition("no-image", "Ready", "False", "ImagePullFailed");
      expect(ready.message).toContain(reference);
      await hasEvent("no-image", "ImagePullFailed");
      await kubectl.apply(testGuest("no-image"));
      await kubectl.waitFor("vm", "no-image", "condition=Ready", 90_000);
    });

    it("a Secret for pulling an image that does not exist", async () => {
      const reference = "127.0.0.1:1/typevisor/private:1";
      const boot = { kernel: { image: { reference }, path: "/boot/testguest" } };
      const template = { spec: { imagePullSecrets: [{ name: "no-such-credentials" }] } };
      await kubectl.apply(testGuest("no-pull-secret", { boot, template }));
      const ready = await kubectl.vmCondition("no-pull-secret", "Ready", "False", "SecretNotFound", 120_000);
      expect(ready.message).toContain("no-such-credentials");
      expect(ready.message).toContain(reference);
      expect(ready.message).toContain("spec.template.spec.imagePullSecrets");
      await hasEvent("no-pull-secret", "SecretNotFound");
      await kubectl.apply(testGuest("no-pull-secret"));
      await kubectl.waitFor("vm", "no-pull-secret", "condition=Ready", 90_000);
    });

    it.each([
      ["Secret", { secret: { secretName: "late" } }, "SecretNotFound"],
      ["ConfigMap", { configMap: { name: "late" } }, "VolumeNotReady"],
    ])("a %s of a disk that does not exist, and runs once it does", async (kind, source, reason) => {
      const name = `no-${kind.toLowerCase()}`;
      await kubectl.apply(testGuest(name, { disks: [{ name: "conf", ...source }] }));
      const ready = await kubectl.vmCondition(name, "Ready", "False", reason, 120_000);
      expect(ready.message).toMatch(new RegExp(`^${kind} late of spec.disks\\[conf\\] does not exist; create it`));
      await hasEvent(name, reason);
      await kubectl.apply({ apiVersion: "v1", kind, metadata: { name: "late" }, data: { a: "Yg==" } });
      // The kubelet looks again within two minutes or so.
      await kubectl.waitFor("vm", name, "condition=Ready", 240_000);
    });

    it.each([
      ["no-kernel", "/boot/nothing-here", /\/boot\/nothing-here/],
      ["text-kernel", "/not-kernels/text", /text/i],
      ["cut-kernel", "/not-kernels/truncated-bzimage", /truncated/i],
      ["arm-kernel", "/not-kernels/elf-aarch64", /aarch64/i],
    ])("%s: a kernel that is not one", async (name, path, message) => {
      await kubectl.apply(testGuest(name, { boot: { kernel: { image, path } }, runStrategy: "Once" }));
      const ready = await kubectl.vmCondition(name, "Ready", "False", "BootImageInvalid");
      expect(ready.message).toMatch(message);
      await kubectl.vmCondition(name, "Stalled", "True");
      await hasEvent(name, "BootImageInvalid");
    });

    it("a pod of that name that belongs to someone else", async () => {
      await kubectl.apply({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: podOf("taken") },
        spec: {
          nodeSelector: { "example.com/nowhere": "true" },
          securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              name: "other",
              image: TEST_GUEST_IMAGE,
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
            },
          ],
        },
      });
      await kubectl.apply(testGuest("taken"));
      const stalled = await kubectl.vmCondition("taken", "Stalled", "True", "NameConflict");
      expect(stalled.message).toContain(podOf("taken"));
      await hasEvent("taken", "NameConflict");
      await kubectl.run(["delete", "pod", podOf("taken")]);
      await kubectl.waitFor("vm", "taken", "condition=Ready", 90_000);
    });
  });
});
