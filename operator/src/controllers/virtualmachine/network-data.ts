import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { interfacesOf, macOf } from "./interfaces.ts";
import { identityOf } from "./names.ts";

/** Metric of default routes that come with other networks than the pod's: that one comes first. */
const OTHER_NETWORK_METRIC = 1000;

/**
 * Network configuration for cloud-init (version 2) where none is given and the machine needs one; undefined where not.
 *
 * With one interface cloud-init does the right thing by itself, DHCP, and nothing is to be said. Of several it would
 * configure one alone. All are configured by DHCP: what is beyond a multus interface may answer or not, so a boot does
 * not wait for it. With podIP nobody knows the interface's MAC before its pod is there, so there is nothing to match by.
 */
export function generatedNetworkData(vm: VirtualMachine): string | undefined {
  const interfaces = interfacesOf(vm.spec);
  if (interfaces.length < 2 || interfaces.some(({ podIP }) => podIP !== undefined)) return undefined;
  const { uid } = identityOf(vm);
  const ethernets = interfaces.map((entry) => {
    const isOther = entry.multus !== undefined;
    const behind = { optional: true, "dhcp4-overrides": { "route-metric": OTHER_NETWORK_METRIC } };
    return [entry.name, { match: { macaddress: macOf(uid, entry) }, dhcp4: true, ...(isOther ? behind : {}) }];
  });
  // JSON is YAML.
  return `${JSON.stringify({ version: 2, ethernets: Object.fromEntries(ethernets) }, null, 2)}\n`;
}
