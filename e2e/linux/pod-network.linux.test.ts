import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";

const rulesDirectory = join(import.meta.dirname, "../../operator/src/node/agent/network");
const ruleSets = readdirSync(rulesDirectory).filter((file) => file.endsWith(".golden.nft"));
const rules = (file: string) => readFileSync(join(rulesDirectory, file), "utf8");

// The node agent's own tests run on the test machine's kernel; here its rules meet a distribution's, with its modules.
describe("what the node agent makes in pods, on the kernel of a Debian node", () => {
  let lab: LinuxLab;
  const pod = `pod-${process.pid}`;
  const far = `far-${process.pid}`;
  const guest = `guest-${process.pid}`;

  beforeAll(async () => {
    lab = await openLab();
    await lab.run(
      "sh -es",
      `
      for name in ${pod} ${far} ${guest}; do ip netns add $name; ip -n $name link set lo up; done
      ip -n ${pod} link add eth0 type veth peer name eth0 netns ${far}
      ip -n ${pod} link add trunk type veth peer name trunk netns ${far}
      ip -n ${pod} link add tap-default type veth peer name eth1 netns ${guest}
      ip -n ${pod} link add ans-default type veth peer name answers
      for link in eth0 trunk tap-default ans-default; do ip -n ${pod} link set $link up; done
      ip -n ${pod} link add link trunk name net1 address 0a:58:0a:f4:00:05 type vlan id 7
      ip -n ${pod} link set net1 up
      ip -n ${far} link set trunk up
      ip -n ${far} link add link trunk name trunk.7 type vlan id 7
      ip -n ${far} link set trunk.7 up
      ip -n ${far} addr add 172.20.0.1/24 dev trunk.7
      ip -n ${guest} link set eth1 address 0a:58:0a:f4:00:05
      ip -n ${guest} link set eth1 up
      ip -n ${guest} addr add 172.20.0.5/24 dev eth1
      `,
    );
  }, 1_800_000);
  afterAll(async () => {
    await lab?.run(`for name in ${pod} ${far} ${guest}; do ip netns del $name; done`);
  });

  it.each(ruleSets)("%s loads, and takes its own place", async (file) => {
    for (let round = 0; round < 2; round++) await lab.run(`ip netns exec ${pod} nft -f -`, rules(file));
    const table = /^table \w+ (\S+) \{$/m.exec(rules(file))?.[1];
    expect(await lab.run(`ip netns exec ${pod} nft list tables`)).toMatch(` ${table}\n`);
  });

  it("frames pass between a VLAN of the pod and its guest, both ways", async () => {
    const ping = (from: string, to: string, seconds = 20) =>
      lab.run(`ip netns exec ${from} busybox ping -c 1 -w ${seconds} ${to}`);
    await lab.run(`ip netns exec ${pod} nft flush ruleset`);
    await expect(ping(far, "172.20.0.5", 1)).rejects.toThrow();
    await lab.run(`ip netns exec ${pod} nft -f -`, rules("multus-vlan.golden.nft"));
    expect(await ping(far, "172.20.0.5")).toMatch(" 0% packet loss");
    expect(await ping(guest, "172.20.0.1")).toMatch(" 0% packet loss");
  });
});
