import { coversCpuFeatures, parseCpuFeatures } from "../../../launcher/api/cpu-features.ts";
import type { Pod } from "../runtime/wire.ts";
import { cpuClassOf, cpuLabels, type NodeCpu } from "./node-cpu.ts";

export type Affinity = NonNullable<NonNullable<Pod["spec"]>["affinity"]>;
type NodeSelectorTerm = NonNullable<
  NonNullable<Affinity["nodeAffinity"]>["requiredDuringSchedulingIgnoredDuringExecution"]
>["nodeSelectorTerms"][number];

/** A guest's processors, and those of the cluster's nodes. */
export interface CpuPlacement {
  /** `LauncherStatus.cpuFeatures` of the source, or what its node says; undefined where neither is known. */
  readonly guest: string | undefined;
  /** Of each node, as far as it says something. */
  readonly nodes: readonly (NodeCpu | undefined)[];
}

/**
 * Classes of nodes on which a guest can go on, sorted; "any" where that cannot be told: then the launcher, which compares
 * before anything is copied, is who refuses. Empty where no node of today fits.
 */
export function fittingCpuClasses({ guest, nodes }: CpuPlacement): readonly string[] | "any" {
  const wanted = parseCpuFeatures(guest ?? "");
  const known = nodes.filter((node) => node !== undefined);
  if (wanted === undefined || known.length === 0) return "any";
  const fitting = known.filter(({ features }) => coversCpuFeatures(features, wanted));
  return [...new Set(fitting.map((node) => node.class))].sort();
}

/**
 * The affinity of a pod that takes a guest over: what the machine asks for, and a node that gives what the guest was given.
 * Where no node of today does, one exactly like the guest's first is asked for, which may come.
 */
export function withCpuAffinity(affinity: Affinity | undefined, placement: CpuPlacement): Affinity | undefined {
  const fitting = fittingCpuClasses(placement);
  const guest = parseCpuFeatures(placement.guest ?? "");
  if (fitting === "any" || guest === undefined) return affinity;
  const values = fitting.length === 0 ? [cpuClassOf(guest)] : [...fitting];
  return requiringOfNode(affinity, { key: cpuLabels.class, operator: "In", values });
}

/** The same affinity with one more requirement of the node's labels or fields, in each of the alternatives that it has. */
export function requiringOfNode(
  affinity: Affinity | undefined,
  requirement: { readonly key: string; readonly operator: string; readonly values: string[] },
  of: "matchExpressions" | "matchFields" = "matchExpressions",
): Affinity {
  const nodeAffinity = affinity?.nodeAffinity ?? {};
  const terms = nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return {
    ...affinity,
    nodeAffinity: {
      ...nodeAffinity,
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: (terms ?? [{}]).map((term) =>
          terms !== undefined && matchesNothing(term) ? term : { ...term, [of]: [...(term[of] ?? []), requirement] },
        ),
      },
    },
  };
}

/** A term without requirements matches no node, and one more must not make it match some. */
function matchesNothing({ matchExpressions = [], matchFields = [] }: NodeSelectorTerm): boolean {
  return matchExpressions.length === 0 && matchFields.length === 0;
}
