import { describe, expect, it } from "@jest/globals";
import type { ControlConfig, InterfaceConfig } from "../../api/machine-config.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { grantedLink, tapWant } from "./interface-links.ts";

const control: ControlConfig = {
  socketPath: "/run/x.sock",
  https: { address: "::", port: 10443, certPath: "/a", keyPath: "/b", caPath: "/c", allowedClients: ["operator"] },
  telemetry: { address: "::", port: 10080 },
};

const config = (attachment: InterfaceConfig["attachment"], queues = 2): InterfaceConfig => ({
  ...{ name: "default", mac: "02:5a:00:12:34:56", queues, link: "up", dataPath: "auto" },
  attachment,
});

const open = (count: number): OwnedFd[] => Array.from({ length: count }, () => openFile("/dev/null"));

describe("what an interface asks of the node agent", () => {
  it("is a TAP whose wiring keeps the launcher's own ports", () => {
    const ports = [{ protocol: "TCP", port: 80 }] as const;
    expect(tapWant(config({ kind: "masquerade", ports }), { control })).toMatchObject({
      ...{ kind: "tap", name: "default", queues: 2 },
      binding: { kind: "masquerade", mac: "02:5a:00:12:34:56", ports, ownPorts: [10443, 10080] },
    });
    expect(tapWant(config({ kind: "podIP" }), { control: { socketPath: "/x" } })?.binding).toEqual({
      kind: "podIP",
      ownPorts: [],
    });
    const multus = { kind: "multus", podInterface: "net1" } as const;
    expect(tapWant(config(multus), { control })?.binding).toEqual(multus);
  });

  it("keeps the two ports of a migration as well", () => {
    const paths = { certPath: "/a", keyPath: "/b", caPath: "/c" };
    const migration = { address: "::", port: 10444, ...paths };
    const binding = { ownPorts: [10443, 10080, 10444, 10445] };
    expect(tapWant(config({ kind: "masquerade" }), { control, migration })).toMatchObject({ binding });
    expect(tapWant(config({ kind: "podIP" }), { control, migration })).toMatchObject({ binding });
  });

  it("is nothing for one that is attached by hand", () => {
    expect(tapWant(config({ kind: "tap", device: "tap0" }), { control })).toBeNull();
  });
});

describe("what the node agent grants", () => {
  const tap = { name: "default", device: "tap-default", mtuBytes: 1450, vhost: false };

  it("becomes the interface's link, with all its queues, and closes with it", () => {
    const fds = open(2);
    const link = grantedLink(config({ kind: "podIP" }), { fds, tap: { ...tap, mac: "02:00:00:00:00:09" } });
    expect(link).toMatchObject({ device: "tap-default", mtuBytes: 1450, mac: "02:00:00:00:00:09", isFiltered: true });
    expect(link.taps).toEqual(fds);
    link[Symbol.dispose]();
    expect(fds.some(({ isOpen }) => isOpen)).toBe(false);
  });

  it("is not filtered on a network beyond the pod's own", () => {
    using link = grantedLink(config({ kind: "multus", podInterface: "net1" }), { fds: open(2), tap });
    expect(link.isFiltered).toBe(false);
  });

  it("tells TAPs, vhost-net and the answering TAP apart", () => {
    const fds = open(5);
    using link = grantedLink(config({ kind: "masquerade" }), { fds, tap: { ...tap, vhost: true } });
    expect([link.taps, link.vhosts, link.answeringTap]).toEqual([fds.slice(0, 2), fds.slice(2, 4), fds[4]]);
  });

  it("has to be a TAP", () => {
    expect(() => grantedLink(config({ kind: "masquerade" }), { fds: [] })).toThrow(
      /interface default: .*granted no TAP/,
    );
  });
});
