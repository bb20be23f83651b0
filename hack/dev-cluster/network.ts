import { existsSync } from "node:fs";
import { join } from "node:path";
import { run, succeeds } from "../lib/step.ts";
import { addresses, familyAddresses, type IpFamily, type Layout, type NodeIdentity } from "./layout.ts";

export function netnsFile(layout: Layout): string {
  return join("/run/netns", layout.netns);
}

/** Prefixes a command so that it runs in the cluster's network namespace (and in the machine's file system). */
export function inNetns(layout: Layout, ...command: string[]): string[] {
  return ["nsenter", `--net=${netnsFile(layout)}`, "--", ...command];
}

/**
 * Makes the network namespace with its bridge. The control plane has an address on the bridge,
 * and so has a native node, which is this machine; node VMs are plugged into it.
 */
export async function ensureNetwork(layout: Layout, native: NodeIdentity | undefined): Promise<void> {
  if (!existsSync(netnsFile(layout))) await run(["ip", "netns", "add", layout.netns]);
  const ip = (...args: string[]) => run(inNetns(layout, "ip", ...args));
  const { bridge } = addresses;
  if (!(await succeeds(inNetns(layout, "ip", "link", "show", bridge)))) {
    await ip("link", "add", bridge, "type", "bridge");
  }
  await ip("link", "set", "lo", "up");
  await ip("link", "set", bridge, "up");
  for (const family of families) {
    const { controlPlane, prefixLength } = familyAddresses[family];
    for (const address of [controlPlane, ...(native ? [native.addresses[family]] : [])]) {
      // Nobody else is there to have it: it can be used at once.
      const atOnce = family === "IPv6" ? ["nodad"] : [];
      await ip("address", "replace", `${address}/${prefixLength}`, "dev", bridge, ...atOnce);
    }
    // Services are reached only where some route leads to them; the firewall then rewrites the address.
    await ip(ipOption[family], "route", "replace", "default", "dev", bridge);
  }
  await run(inNetns(layout, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"));
}

const families = ["IPv4", "IPv6"] as const;
const ipOption: Readonly<Record<IpFamily, string>> = { IPv4: "-4", IPv6: "-6" };

/** Pods of a node VM are behind its address. */
export async function ensurePodRoutes(layout: Layout, nodes: readonly NodeIdentity[]): Promise<void> {
  for (const node of nodes) {
    for (const family of families) {
      const way = [node.podCidrs[family], "via", node.addresses[family]];
      await run(inNetns(layout, "ip", ipOption[family], "route", "replace", ...way));
    }
  }
}

/** Adds the TAP of a node VM to the bridge. */
export async function ensureTap(layout: Layout, tap: string): Promise<void> {
  if (!(await succeeds(inNetns(layout, "ip", "link", "show", tap)))) {
    await run(inNetns(layout, "ip", "tuntap", "add", tap, "mode", "tap"));
  }
  await run(inNetns(layout, "ip", "link", "set", tap, "master", addresses.bridge, "up"));
}

export async function removeNetwork(layout: Layout): Promise<void> {
  if (existsSync(netnsFile(layout))) await run(["ip", "netns", "delete", layout.netns]);
}
