import { createHash } from "node:crypto";
import type { VirtualMachineImageSpec } from "../../../../crds/src/virtualmachineimage.ts";

/** Tells sources apart: a pod that imports another one is of no use any more. */
export function sourceDigest(spec: VirtualMachineImageSpec): string {
  return digest(spec.source);
}

/** Tells templates apart: a pod of another one, that has not started, may be of no use. */
export function templateDigest(spec: VirtualMachineImageSpec): string {
  return digest(spec.template ?? {});
}

function digest(value: object): string {
  return createHash("sha256").update(JSON.stringify(value, sortedKeys)).digest("hex").slice(0, 16);
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
