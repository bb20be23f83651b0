import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { TapWant } from "../../../../../launcher/api/agent.ts";
import { guestMac, NetworkLab } from "../../testing/network-lab.ts";
import type { TestNamespace } from "../../testing/test-namespace.ts";

// Needs root, and a kernel with nftables: network namespaces are made.
const tap: TapWant = {
  kind: "tap",
  name: "default",
  queues: 1,
  vhost: false,
  binding: { kind: "masquerade", mac: guestMac, ownPorts: [8443] },
};
let lab: NetworkLab;

beforeEach(async () => {
  lab = await new NetworkLab({ ipv4: true, ipv6: false }).start();
});
afterEach(async () => await lab[Symbol.asyncDispose]());

const ask = (want: TapWant = tap, asker: TestNamespace = lab.pod) => asker.ask(lab.agent.socketPath, [want]);

describe("a TAP of a pod", () => {
  it("belongs to who asked first, until that ends", async () => {
    expect((await ask()).answer.ok).toBe(true);
    expect((await ask()).answer).toMatchObject({
      error: {
        code: "DeviceBusy",
        item: 0,
        message: expect.stringMatching(/TAP tap-default on the pod's eth0 is in use/),
      },
    });
    // Nor does the pod's interface go to one of another name.
    expect((await ask({ ...tap, name: "other" })).answer).toMatchObject({ error: { code: "DeviceBusy" } });
    await lab.pod.endProcess();
    expect((await ask({ ...tap, name: "other" })).answer.ok).toBe(true);
  });

  it("is given to a launcher that waits for one on its way out", async () => {
    await using second = lab.pod.sibling();
    expect((await ask()).answer.ok).toBe(true);
    const waiting = ask(tap, second);
    await lab.pod.order({ do: "release" });
    expect((await waiting).answer.ok).toBe(true);
  });

  it("goes to one of two that ask at once, and works for that one", async () => {
    await using second = lab.pod.sibling();
    const answers = await Promise.all([ask(), ask(tap, second)]);
    expect(answers.map(({ answer }) => answer.ok).sort()).toEqual([false, true]);
    expect(lab.pod.run("nft", ["list", "table", "netdev", "typevisor"])).toMatch('device "tap-default"');
  });

  it("stays whose it is while it is unplugged", async () => {
    for (const queues of [1, 2]) {
      await ask({ ...tap, queues });
      await lab.pod.order({ do: "unplug", descriptor: 0 });
      expect(lab.pod.ip("link show tap-default")).toMatch("NO-CARRIER");
      expect((await ask({ ...tap, queues })).answer).toMatchObject({ error: { code: "DeviceBusy" } });
      await lab.pod.order({ do: "release" });
    }
  });

  it("has the queues that are asked for, which do not wait", async () => {
    expect((await ask({ ...tap, queues: 8 })).fdCount).toBe(8);
    expect(lab.pod.ip("-details link show tap-default")).toMatch(/qdisc noqueue .*multi_queue .*numqueues 8/s);
    await lab.pod.order({ do: "release" });
    expect((await ask()).fdCount).toBe(1);
    expect(lab.pod.ip("-details link show tap-default")).not.toMatch("multi_queue");
  });

  it("is not made over an interface of somebody else's", async () => {
    lab.pod.ip("link add tap-default type veth peer name other");
    expect((await ask()).answer).toMatchObject({
      error: { code: "NetworkUnfit", message: expect.stringMatching(/has an interface tap-default of another's/) },
    });
  });

  it.each([1, 2])("of %d queues that a launcher made to stay is replaced", async (queues) => {
    await ask({ ...tap, queues });
    await lab.pod.order({ do: "persist", descriptor: 0 });
    await lab.pod.order({ do: "release" });
    expect(lab.pod.ip("link show tap-default")).toMatch("NO-CARRIER");
    expect((await ask({ ...tap, queues: 3 - queues })).answer.ok).toBe(true);
  });

  it("is refused where the pod has no address, or the guest's", async () => {
    lab.pod.ip("addr flush dev eth0");
    expect((await ask()).answer).toMatchObject({
      error: { code: "NetworkUnfit", message: expect.stringMatching(/eth0 has no address/) },
    });
    lab.pod.ip("addr add 10.0.2.2/24 dev eth0");
    expect((await ask()).answer).toMatchObject({
      error: { code: "NetworkUnfit", message: expect.stringMatching(/10\.0\.2\.2 is one that masquerade gives/) },
    });
    lab.pod.ip("link del eth0");
    expect((await ask()).answer).toMatchObject({
      error: { code: "NetworkUnfit", message: expect.stringMatching(/no interface eth0; see what the cluster's CNI/) },
    });
  });

  it("is refused to a pod on the node's own network, where nothing is touched", async () => {
    const { answer } = await lab.askFromNode([tap]);
    expect(answer).toMatchObject({ error: { code: "NotAuthorized", message: expect.stringMatching(/hostNetwork/) } });
  });

  it("changes nothing of the pod's when a later item of its request is refused", async () => {
    const { answer, fdCount } = await lab.pod.ask(lab.agent.socketPath, [tap, { kind: "kvm" }]);
    expect(answer).toMatchObject({ error: { code: "DeviceMissing", item: 1 } });
    expect(fdCount).toBe(0);
    expect(lab.pod.ip("link")).not.toMatch("tap-default");
  });
});
