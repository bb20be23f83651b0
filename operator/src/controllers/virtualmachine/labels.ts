import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { annotations, identityOf, MANAGED_BY, MANAGED_BY_LABEL, VM_LABEL } from "./names.ts";
import type { Action } from "./plan.ts";

/** Labels of a machine's pod: the machine's, the template's and, whatever those say, ours. */
export function podLabels(vm: VirtualMachine): Record<string, string> {
  return {
    ...vm.metadata.labels,
    ...vm.spec.template?.metadata?.labels,
    [MANAGED_BY_LABEL]: MANAGED_BY,
    [VM_LABEL]: identityOf(vm).name,
  };
}

/** Which labels of a pod come from its machine, as an annotation of it says: those go when the machine's do. */
export function labelKeysAnnotation(labels: Readonly<Record<string, string>>): { [annotations.labels]: string } {
  return { [annotations.labels]: JSON.stringify(Object.keys(labels).sort()) };
}

/**
 * Has the pod follow a change of its machine's labels while it runs: Services, policies and budgets select by them.
 * Labels that others gave the pod stay.
 */
export function relabel(vm: VirtualMachine, pod: Pod): Action[] {
  const wanted = podLabels(vm);
  const given = pod.metadata?.labels ?? {};
  const gone = ownKeys(pod).filter((key) => !(key in wanted));
  const changed = Object.entries(wanted).filter(([key, value]) => given[key] !== value);
  if (gone.length === 0 && changed.length === 0) return [];
  const labels = { ...Object.fromEntries(gone.map((key) => [key, null])), ...Object.fromEntries(changed) };
  return [{ kind: "label-pod", podUID: pod.metadata?.uid ?? "", labels, annotations: labelKeysAnnotation(wanted) }];
}

function ownKeys(pod: Pod): string[] {
  try {
    const keys: unknown = JSON.parse(pod.metadata?.annotations?.[annotations.labels] ?? "[]");
    return Array.isArray(keys) ? keys.filter((key) => typeof key === "string") : [];
  } catch {
    // Somebody's hand was in it: what is not known to be the machine's is left alone.
    return [];
  }
}
