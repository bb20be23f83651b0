import { describe, expect, it } from "@jest/globals";
import { ConfigInvalid, Field } from "./field.ts";
import { interfaces } from "./interface-config.ts";

const agent = { agentSocketPath: "/run/agent.sock" };
const base = {
  name: "default",
  mac: "02:5a:00:12:34:56",
  queues: 2,
  link: "up",
  attachment: { kind: "masquerade" },
  dataPath: "auto",
};
const guest = {
  ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1", routes: [{ destination: "10.9.0.0/16" }] },
  ipv6: { address: "fd10:0:2::2", prefixLength: 120, gateway: "fe80::1" },
};

const parse = (list: readonly unknown[], kvm: Parameters<typeof interfaces>[1] = agent) =>
  interfaces(new Field("interfaces", list), kvm);

describe("interfaces of machine.json", () => {
  it.each([
    ["masquerade", base],
    [
      "masquerade with ports",
      { ...base, attachment: { kind: "masquerade", ports: [{ protocol: "SCTP", port: 65535 }] } },
    ],
    ["podIP", { ...base, attachment: { kind: "podIP" }, link: "down" }],
    ["multus", { ...base, attachment: { kind: "multus", podInterface: "net1" }, dataPath: "inProcess" }],
    ["a TAP by hand", { ...base, attachment: { kind: "tap", device: "tap0", guest } }],
    [
      "all that there is",
      {
        ...base,
        limits: { packetsPerSecond: 1000, bitsPerSecond: 1e9 },
        dhcp: { hostname: "web.example", ntpServers: ["192.0.2.1", "2001:db8::1"] },
      },
    ],
  ])("are read as they stand: %s", (_what, value) => {
    expect(parse([value])).toEqual([value]);
  });

  it.each([
    ["a name that is no label", { ...base, name: "Default" }, /interfaces\[0\]\.name is "Default"; give a DNS label/],
    ["a MAC of a group", { ...base, mac: "03:5a:00:12:34:56" }, /\.mac .*unicast MAC address/],
    ["a MAC of zeroes", { ...base, mac: "00:00:00:00:00:00" }, /\.mac is all zeroes/],
    ["no queues", { ...base, queues: 0 }, /\.queues is 0; give a whole number from 1 to 8/],
    ["too many queues", { ...base, queues: 9 }, /\.queues is 9/],
    ["a link that is neither", { ...base, link: "off" }, /\.link is "off"; give one of up, down/],
    ["an unknown attachment", { ...base, attachment: { kind: "bridge" } }, /\.attachment\.kind .*masquerade, podIP/],
    ["an unknown data path", { ...base, dataPath: "fast" }, /\.dataPath/],
    ["a port 0", { ...base, attachment: { kind: "masquerade", ports: [{ protocol: "TCP", port: 0 }] } }, /port is 0/],
    ["a limit of nothing", { ...base, limits: { bitsPerSecond: 1 } }, /bitsPerSecond is 1; give .* from 8000/],
    [
      "an NTP server by name",
      { ...base, dhcp: { ntpServers: ["pool.ntp.org"] } },
      /ntpServers\[0\] is "pool\.ntp\.org"/,
    ],
    [
      "a device name with a slash",
      { ...base, attachment: { kind: "tap", device: "../x" } },
      /device is "\.\.\/x"; give the name of a network device/,
    ],
    [
      "an address of the other family",
      { ...base, attachment: { kind: "tap", device: "t", guest: { ipv4: { address: "fd00::1", prefixLength: 24 } } } },
      /ipv4\.address is "fd00::1"; give an IPv4 address/,
    ],
    [
      "a route that is no network",
      {
        ...base,
        attachment: {
          kind: "tap",
          device: "t",
          guest: { ipv4: { ...guest.ipv4, routes: [{ destination: "10.0.0.0" }] } },
        },
      },
      /destination is "10\.0\.0\.0"; give an IPv4 network/,
    ],
    [
      "a global IPv6 gateway without its MAC",
      { ...base, attachment: { kind: "tap", device: "t", guest: { ipv6: { ...guest.ipv6, gateway: "fd10:0:2::1" } } } },
      /gatewayMac is missing; a gateway that is not link-local needs/,
    ],
    ["an unknown field", { ...base, mtu: 1500 }, /mtu is not a known field/],
  ])("are refused with %s, by name", (_what, value, says) => {
    expect(() => parse([value])).toThrow(ConfigInvalid);
    expect(() => parse([value])).toThrow(says);
  });

  it("have names of their own", () => {
    expect(() => parse([base, base])).toThrow(/interfaces\[1\]\.name is "default", which another interface has too/);
  });

  it("are wired by the node agent, all but TAPs", () => {
    const byHand = { devicePath: "/dev/kvm" };
    expect(() => parse([base], byHand)).toThrow(/attachment is of kind masquerade, which the node agent makes/);
    expect(parse([{ ...base, attachment: { kind: "tap", device: "tap0" } }], byHand)).toHaveLength(1);
  });

  it("are 8 at most", () => {
    expect(() => parse(Array.from({ length: 9 }, (_, i) => ({ ...base, name: `n${i}` })))).toThrow(
      /9 entries.*at most 8/,
    );
  });
});
