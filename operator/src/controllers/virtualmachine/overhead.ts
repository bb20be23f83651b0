import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Settings } from "./settings.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** Memory of the guest. */
export function guestMemoryBytes(spec: VirtualMachineSpec): number {
  return parseQuantity(spec.memory.size);
}

/** The published formula: fixed + per vCPU + per GiB of the guest, rounded up to whole MiB. */
export function overheadBytes(spec: VirtualMachineSpec, settings: Settings): number {
  const { fixedBytes, perCpuBytes, perGuestGiBytes } = settings.overhead;
  const bytes = fixedBytes + perCpuBytes * spec.cpu.cores + (perGuestGiBytes * guestMemoryBytes(spec)) / GIB;
  return Math.ceil(bytes / MIB) * MIB;
}

/** Memory that the pod requests: guest + overhead. */
export function memoryRequestBytes(spec: VirtualMachineSpec, settings: Settings): number {
  return guestMemoryBytes(spec) + overheadBytes(spec, settings);
}

/** Requests and limits of the launcher's container, where the template does not say otherwise. */
export function resourcesOf(
  spec: VirtualMachineSpec,
  settings: Settings,
): { requests: Record<string, string>; limits: Record<string, string> } {
  const given = spec.template?.spec?.resources;
  const limits = toStrings(given?.limits);
  const requests = toStrings(given?.requests);
  const cpuCores = spec.cpu.cores * settings.cpuRatio;
  const cpuLimit = limits["cpu"] === undefined ? Number.POSITIVE_INFINITY : parseQuantity(limits["cpu"]);
  return {
    requests: {
      cpu: `${Math.max(1, Math.round(Math.min(cpuCores, cpuLimit) * 1000))}m`,
      memory: formatBytes(memoryRequestBytes(spec, settings)),
      ...requests,
    },
    limits,
  };
}

function toStrings(quantities: Readonly<Record<string, string | number | undefined>> = {}): Record<string, string> {
  const given = Object.entries(quantities).filter((entry) => entry[1] !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
}
