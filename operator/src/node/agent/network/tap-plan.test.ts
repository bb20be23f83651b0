import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import type { TapBinding } from "../../../../../launcher/api/agent.ts";
import type { PodInterface } from "./pod-network.ts";
import type { Link } from "./rtnetlink.ts";
import { tapNames } from "./tap-names.ts";
import { planTap, type TapPlan } from "./tap-plan.ts";

const link = (change: Partial<Link> = {}): Link => ({
  index: 2,
  name: "eth0",
  mac: "0a:58:0a:f4:00:05",
  mtuBytes: 1450,
  kind: "veth",
  alias: undefined,
  isHeld: false,
  allMulticast: false,
  isEthernet: true,
  ...change,
});
const route = (destination: string | undefined, gateway: string | undefined, more: object = {}) => {
  const [address = "", length = ""] = destination?.split("/") ?? [];
  return {
    linkIndex: 2,
    isIpv6: [destination, gateway].some((each) => each?.includes(":")),
    destination: destination === undefined ? undefined : { address, prefixLength: Number(length) },
    gateway,
    ofPrefix: false,
    isLearned: false,
    isPutAside: false,
    isOnLink: false,
    priority: 0,
    ...more,
  };
};
const pod: PodInterface = {
  link: link(),
  ipv4: [{ linkIndex: 2, address: "10.244.0.5", prefixLength: 24 }],
  ipv6: [{ linkIndex: 2, address: "fd00:10:244::5", prefixLength: 64 }],
  routes: [
    route(undefined, "10.244.0.1", { priority: 100 }),
    route(undefined, "10.244.0.9", { priority: 200 }),
    route("10.244.0.0/24", undefined, { ofPrefix: true }),
    route("10.96.0.0/12", "10.244.0.2"),
    route(undefined, "fe80::1"),
    route("fe80::/64", undefined, { ofPrefix: true }),
  ],
};
const calico: PodInterface = {
  ...pod,
  ipv4: [{ linkIndex: 2, address: "10.244.0.5", prefixLength: 32 }],
  ipv6: [],
  routes: [route(undefined, "169.254.1.1"), route("169.254.1.1/32", undefined)],
};
const masquerade: TapBinding = { kind: "masquerade", mac: "02:5a:00:12:34:56", ownPorts: [8443, 9090] };
const podIP: TapBinding = { kind: "podIP", ownPorts: [8443, 9090] };
const multus: TapBinding = { kind: "multus", podInterface: "net1" };

function plan(binding: TapBinding, change: { pod?: PodInterface; answering?: boolean } = {}): TapPlan {
  const want = { kind: "tap", name: "default", queues: 1, vhost: false, binding } as const;
  return planTap({ want, pod, names: tapNames("default"), answering: false, ...change });
}

/** Rules as a file has them; with UPDATE_GOLDEN=1 it is written anew. */
function expectGolden(name: string, rules: string): void {
  const file = join(import.meta.dirname, `${name}.golden.nft`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, `${rules}\n`);
  expect(`${rules}\n`).toBe(readFileSync(file, "utf8"));
}

describe("the rules", () => {
  it.each<[name: string, binding: TapBinding, change: { pod?: PodInterface; answering?: boolean }]>([
    ["masquerade", masquerade, { answering: true }],
    [
      "masquerade-ports",
      {
        ...masquerade,
        ownPorts: [],
        ports: [
          { protocol: "TCP", port: 80 },
          { protocol: "UDP", port: 53 },
          { protocol: "TCP", port: 443 },
          { protocol: "TCP", port: 80 },
          { protocol: "SCTP", port: 36412 },
        ],
      },
      { pod: { ...pod, ipv6: [] } },
    ],
    ["pod-ip", podIP, { answering: true }],
    ["pod-ip-point-to-point", { ...podIP, ownPorts: [] }, { pod: calico }],
    [
      "pod-ip-silent-gateway",
      { ...podIP, ownPorts: [] },
      { pod: { ...calico, silentGateway: { address: "169.254.1.1", mac: "0a:00:00:00:00:01" } } },
    ],
    ["multus-vlan", multus, { pod: { ...pod, link: link({ name: "net1", kind: "vlan" }) }, answering: true }],
    ["multus-bridge", multus, { pod: { ...pod, link: link({ name: "net1" }), ipv4: [], ipv6: [], routes: [] } }],
  ])("of %s are as in its golden file; if a change is meant, run with UPDATE_GOLDEN=1", (name, binding, change) => {
    expectGolden(name, plan(binding, change).rules);
  });
});

describe("a guest that takes its pod's place", () => {
  it("has its addresses, the best default route, and routes that are no prefix's", () => {
    expect(plan(podIP)).toMatchObject({
      mac: "0a:58:0a:f4:00:05",
      mtuBytes: 1450,
      guest: {
        ipv4: {
          address: "10.244.0.5",
          prefixLength: 24,
          gateway: "10.244.0.1",
          routes: [{ destination: "10.96.0.0/12", gateway: "10.244.0.2" }],
        },
        ipv6: { address: "fd00:10:244::5", prefixLength: 64, gateway: "fe80::1" },
      },
    });
    expect(plan(podIP, { pod: calico }).guest).toEqual({
      ipv4: {
        address: "10.244.0.5",
        prefixLength: 32,
        gateway: "169.254.1.1",
        routes: [{ destination: "169.254.1.1/32" }],
      },
    });
  });

  it("gets an IPv6 gateway that is not link-local with its MAC, or not at all", () => {
    const routed = { ...pod, routes: [route(undefined, "fd00:10:244::1")] };
    expect(plan(podIP, { pod: routed }).guest?.ipv6).toEqual({ address: "fd00:10:244::5", prefixLength: 64 });
    expect(plan(podIP, { pod: { ...routed, gatewayMac: "0a:00:00:00:00:01" } }).guest?.ipv6).toEqual({
      address: "fd00:10:244::5",
      prefixLength: 64,
      gateway: "fd00:10:244::1",
      gatewayMac: "0a:00:00:00:00:01",
    });
  });
});

describe("an interface without Ethernet", () => {
  const bare = { ...pod, link: link({ kind: "netkit", isEthernet: false }) };
  it("takes masquerade, and refuses podIP with the way out", () => {
    expect(plan(masquerade, { pod: bare }).guest).toBeDefined();
    expect(() => plan(podIP, { pod: bare })).toThrow(/eth0 carries no Ethernet frames .* use masquerade/);
  });
});

describe("masquerade", () => {
  it("touches settings of the TAP, of the pod's interface, and of the namespace, and no others", () => {
    const paths = plan(masquerade).settings.map(({ path }) => path);
    expect(paths.every((path) => /^ipv[46]\/(conf|neigh)\/(tap-default|eth0|all)\//.test(path))).toBe(true);
    expect(paths.filter((path) => path.includes("/all/"))).toEqual([
      "ipv4/conf/all/send_redirects",
      "ipv6/conf/all/forwarding",
    ]);
  });

  it("keeps IPv6 off the TAP of a pod without it", () => {
    const { settings, ends, linkLocal } = plan(masquerade, { pod: { ...pod, ipv6: [] } });
    expect(settings.filter(({ path }) => path.startsWith("ipv6"))).toEqual([
      { path: "ipv6/conf/tap-default/disable_ipv6", value: "1", optional: true },
    ]);
    expect(ends).toEqual([{ pod: "10.0.2.1", guest: "10.0.2.2", guestMac: "02:5a:00:12:34:56" }]);
    expect(linkLocal).toBeUndefined();
  });
});

describe("names of devices", () => {
  it("show that of the interface where it fits, and fit always", () => {
    expect(tapNames("default")).toEqual({ tap: "tap-default", answering: "ans-default" });
    expect(tapNames("eleven-char").tap).toBe("tap-eleven-char");
    const long = ["a-name-of-more-than-eleven", "a-name-of-more-than-twelve"].map((name) => tapNames(name).tap);
    expect(new Set(long).size).toBe(2);
    for (const name of long) expect(name).toMatch(/^tap-[0-9a-f]{11}$/);
  });
});
