import type { V1PodDisruptionBudget } from "@kubernetes/client-node";
import { controllerOf, type Wire } from "../../runtime/wire.ts";
import { identityOf, MANAGED_BY, MANAGED_BY_LABEL, podNameOf, VM_LABEL } from "../virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";

export type Budget = Wire<V1PodDisruptionBudget>;

export type BudgetAction =
  | { readonly kind: "create"; readonly budget: Budget }
  | { readonly kind: "patch"; readonly budget: Budget; readonly spec: NonNullable<Budget["spec"]> }
  | { readonly kind: "delete"; readonly budget: Budget };

/** Name of a machine's PodDisruptionBudget. */
export const budgetNameOf = podNameOf;

/**
 * A machine that must not be stopped by an eviction has a PodDisruptionBudget that lets none of its pods go, for when nobody
 * answers for the webhook: clients then try again, as they do on the webhook's own word. The webhook is asked first, so that
 * it decides whenever it is there.
 */
export function decideBudget(vm: StoredVirtualMachine | undefined, existing: Budget | undefined): BudgetAction[] {
  const wanted = vm === undefined ? undefined : budgetOf(vm);
  const isOurs = existing !== undefined && vm !== undefined && controllerOf(existing)?.uid === vm.metadata.uid;
  if (existing !== undefined && (!isOurs || wanted === undefined)) {
    return existing.metadata?.deletionTimestamp === undefined ? [{ kind: "delete", budget: existing }] : [];
  }
  if (wanted?.spec === undefined) return [];
  if (existing === undefined) return [{ kind: "create", budget: wanted }];
  return isAlike(existing.spec, wanted.spec) ? [] : [{ kind: "patch", budget: existing, spec: wanted.spec }];
}

/** Undefined for a machine whose pods may be evicted, or that is off: a budget that nothing can meet alarms people. */
function budgetOf(vm: StoredVirtualMachine): Budget | undefined {
  const { name, namespace, uid } = identityOf(vm);
  const running = vm.status?.conditions?.find(({ type }) => type === "Running")?.status ?? "False";
  const isGuarded = vm.spec.evictionStrategy === "LiveMigrate" && running !== "False";
  if (!isGuarded || vm.metadata.deletionTimestamp !== undefined) return undefined;
  const owner = { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", name, uid };
  return {
    metadata: {
      name: budgetNameOf(name),
      namespace,
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [VM_LABEL]: name },
      ownerReferences: [{ ...owner, controller: true, blockOwnerDeletion: false }],
    },
    spec: {
      // A count: shares need a controller that Kubernetes can scale. While it moves, both pods count.
      minAvailable: vm.status?.migration === undefined ? 1 : 2,
      selector: { matchLabels: { [MANAGED_BY_LABEL]: MANAGED_BY, [VM_LABEL]: name } },
    },
  };
}

function isAlike(a: Budget["spec"], b: Budget["spec"]): boolean {
  const part = (spec: Budget["spec"]) =>
    JSON.stringify([spec?.minAvailable, Object.entries(spec?.selector?.matchLabels ?? {}).sort()]);
  return part(a) === part(b);
}
