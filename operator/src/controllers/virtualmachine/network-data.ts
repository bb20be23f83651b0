import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { interfacesOf, macOf } from "./interfaces.ts";
import { identityOf } from "./names.ts";

/** Metric of default routes that come with other networks than the pod's: that one comes first. */
const OTHER_NETWORK_METRIC = 1000;

/**
 * Network configuration for cloud-init (version 2) where none is given; undefined where there is nothing to say.
 *
 * All interfaces are configured by DHCP of both families: what cloud-init does by itself is one interface, of IPv4 alone in
 * some versions. What is beyond a multus interface may answer or not, so a boot does not wait for it. With podIP nobody knows
 * the interface's MAC before its pod is there, so there is nothing to match by.
 */
export function generatedNetworkData(vm: VirtualMachine): string | undefined {
  const interfaces = interfacesOf(vm.spec);
  if (interfaces.length === 0 || interfaces.some(({ podIP }) => podIP !== undefined)) return undefined;
  const { uid } = identityOf(vm);
  const overrides = { "route-metric": OTHER_NETWORK_METRIC };
  const behind = { optional: true, "dhcp4-overrides": overrides, "dhcp6-overrides": overrides };
  const ethernets = interfaces.map((entry) => {
    const byDhcp = { match: { macaddress: macOf(uid, entry) }, dhcp4: true, dhcp6: true };
    return [entry.name, { ...byDhcp, ...(entry.multus === undefined ? {} : behind) }];
  });
  // JSON is YAML.
  return `${JSON.stringify({ version: 2, ethernets: Object.fromEntries(ethernets) }, null, 2)}\n`;
}
