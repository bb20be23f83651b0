import { createHash } from "node:crypto";
import { type CpuFeatures, formatCpuFeatures, parseCpuFeatures, x86Level } from "../../../launcher/api/cpu-features.ts";
import type { Node } from "../runtime/wire.ts";

/** Node agents alone write what is under this prefix. */
export const CPU_PREFIX = "cpu.typevisor.io/";

export const cpuLabels = {
  /** Digest of all that guests are given: nodes of one class are alike to a guest. */
  class: `${CPU_PREFIX}class`,
  /** Level of the x86-64 psABI, e.g. x86-64-v3: for people, and for selectors of their own. */
  level: `${CPU_PREFIX}level`,
  /** As CPUID spells it, e.g. GenuineIntel. */
  vendor: `${CPU_PREFIX}vendor`,
} as const;

/** What guests are given on the node, in the format of launcher/api/cpu-features.ts. */
export const CPU_FEATURES_ANNOTATION = `${CPU_PREFIX}features`;

/** What a node says of its processors. */
export interface NodeCpu {
  readonly class: string;
  readonly features: CpuFeatures;
}

/** The same for the same features, and a label's value. */
export function cpuClassOf(features: CpuFeatures): string {
  return createHash("sha256").update(formatCpuFeatures(features)).digest("hex").slice(0, 16);
}

/** Three labels and one annotation, however many features there are. */
export function describeNode(features: CpuFeatures): {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
} {
  return {
    labels: {
      [cpuLabels.class]: cpuClassOf(features),
      [cpuLabels.level]: `x86-64-v${x86Level(features)}`,
      [cpuLabels.vendor]: labelValue(features.vendor),
    },
    annotations: { [CPU_FEATURES_ANNOTATION]: formatCpuFeatures(features) },
  };
}

/** Undefined where the node says nothing, or where label and annotation do not belong together. */
export function nodeCpuOf(node: Node): NodeCpu | undefined {
  const { labels, annotations } = node.metadata ?? {};
  const features = parseCpuFeatures(annotations?.[CPU_FEATURES_ANNOTATION] ?? "");
  if (features === undefined) return undefined;
  const digest = cpuClassOf(features);
  return labels?.[cpuLabels.class] === digest ? { class: digest, features } : undefined;
}

function labelValue(text: string): string {
  return text.replace(/[^A-Za-z0-9_.-]/g, "-").replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "") || "unknown";
}
