import { createHash } from "node:crypto";
import type { VirtualMachineImageSpec } from "../../../../crds/src/virtualmachineimage.ts";

/** Tells sources apart: a pod that imports another one is of no use any more. */
export function sourceDigest(spec: VirtualMachineImageSpec): string {
  return createHash("sha256").update(JSON.stringify(spec.source, sortedKeys)).digest("hex").slice(0, 16);
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
