import { KVM_RESOURCE } from "../../../launcher/api/agent.ts";
import { table } from "../output/table.ts";
import { type ClusterFacts, isUnreadable } from "./facts.ts";
import { modesOf, sharedClasses } from "./storage.ts";

/** Nodes and storage classes one by one, for `doctor -o wide`; what could not be read is left out. */
export function details({ nodes, vhostNet, storageClasses, volumes }: ClusterFacts): string {
  const parts: string[] = [];
  if (!isUnreadable(nodes)) {
    const rows = nodes.map(({ metadata, status }) => [
      metadata?.name ?? "",
      `${status?.allocatable?.[KVM_RESOURCE] ?? "-"}`,
      isUnreadable(vhostNet) ? "?" : yesNo(vhostNet.get(metadata?.name ?? "")),
      metadata?.labels?.["cpu.typevisor.io/level"] ?? "-",
      status?.nodeInfo?.kubeletVersion ?? "-",
      status?.nodeInfo?.containerRuntimeVersion ?? "-",
    ]);
    parts.push(table(["NODE", "MACHINES", "VHOST-NET", "CPU LEVEL", "KUBELET", "RUNTIME"], rows));
  }
  if (!isUnreadable(storageClasses) && storageClasses.length > 0) {
    const known = isUnreadable(volumes) ? [] : volumes;
    const shared = new Set(sharedClasses(storageClasses, known));
    const rows = storageClasses.map(({ metadata, provisioner, volumeBindingMode, allowVolumeExpansion }) => [
      metadata?.name ?? "",
      provisioner,
      volumeBindingMode ?? "Immediate",
      yesNo(allowVolumeExpansion === true),
      shared.has(metadata?.name ?? "") ? "yes" : "not known to",
      modesOf(metadata?.name ?? "", known).join(", ") || "-",
    ]);
    parts.push(table(["STORAGE CLASS", "PROVISIONER", "BINDING", "GROWS", "SHARES", "MODES OF ITS VOLUMES"], rows));
  }
  return parts.map((part) => `\n${part}`).join("");
}

function yesNo(is: boolean | undefined): string {
  if (is === undefined) return "-";
  return is ? "yes" : "no";
}
