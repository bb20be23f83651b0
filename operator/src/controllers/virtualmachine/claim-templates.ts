import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { VolumeClaimTemplate } from "../../../../crds/src/volume-claim-template.ts";
import type { PersistentVolumeClaim } from "../../runtime/wire.ts";
import { type ClaimFacts, type Claims, templateClaimName } from "./claims.ts";
import { identityOf, MANAGED_BY, MANAGED_BY_LABEL, VM_LABEL } from "./names.ts";
import type { ClaimRefusal } from "./observation.ts";
import type { Action } from "./plan.ts";
import { ownerReferenceTo } from "./pod.ts";

/** How long after the API server would not let a claim grow it is asked again: its StorageClass may have changed. */
const REFUSED_DELAY_MS = 5 * 60_000;

/** The claims of the machine's templates that do not exist, to be made before it starts. */
export function claimsToMake(vm: VirtualMachine, claims: Claims): Action[] {
  return eachTemplate(vm)
    .filter(({ claimName, hasMoved }) => claims[claimName] === undefined && !hasMoved)
    .map(({ claimName, template }) =>
      apply(vm, { claimName, template, requestBytes: requestBytesOf(template), isNew: true }),
    );
}

/** What keeps existing claims as the templates say: they grow, and belong to the machine or not. */
export function claimUpkeep(
  vm: VirtualMachine,
  claims: Claims,
  refused: { readonly claimRefusals: Readonly<Record<string, ClaimRefusal>>; readonly nowMs: number },
): { readonly actions: Action[]; readonly wakeAtMs: number | undefined } {
  const actions: Action[] = [];
  let wakeAtMs: number | undefined;
  for (const { claimName, template, hasMoved } of eachTemplate(vm)) {
    const existing = claims[claimName];
    // A claim of the name that somebody else made is used, and left as it is.
    if (existing === undefined || existing.deleting || existing.vmName !== vm.metadata.name) continue;
    const wantedBytes = hasMoved ? existing.requestBytes : requestBytesOf(template, existing);
    const refusal = refused.claimRefusals[claimName];
    const againAtMs = refusal === undefined ? 0 : refusal.atMs + REFUSED_DELAY_MS;
    const isRefused = (bytes: number) => refusal?.requestBytes === bytes && refused.nowMs < againAtMs;
    const requestBytes = isRefused(wantedBytes) ? existing.requestBytes : wantedBytes;
    if (requestBytes < wantedBytes || isRefused(existing.requestBytes)) {
      wakeAtMs = Math.min(wakeAtMs ?? againAtMs, againAtMs);
    }
    if (isRefused(existing.requestBytes)) continue;
    const isOwned = existing.owners.includes(identityOf(vm).uid);
    if (requestBytes > existing.requestBytes || isOwned !== goesWithMachine(vm)) {
      actions.push(apply(vm, { claimName, template, requestBytes, isNew: false }));
    }
  }
  return { actions, wakeAtMs };
}

function goesWithMachine(vm: VirtualMachine): boolean {
  return vm.spec.persistentVolumeClaimRetentionPolicy?.whenDeleted === "Delete";
}

/** What the claim shall request: never less than it does. */
function requestBytesOf(template: VolumeClaimTemplate, existing?: ClaimFacts): number {
  return Math.max(parseQuantity(template.spec.resources.requests.storage), existing?.requestBytes ?? 0);
}

function eachTemplate(vm: VirtualMachine) {
  const { name } = identityOf(vm);
  return (vm.spec.volumeClaimTemplates ?? []).map((template) => {
    const claimName = templateClaimName(template.metadata.name, name);
    // A migration moved its disk to another claim: this one is its owner's to delete.
    const hasMoved = vm.status?.movedDisks?.some(
      (moved) => moved.specClaimName === claimName && moved.claimName !== claimName,
    );
    return { template, claimName, hasMoved: hasMoved === true };
  });
}

function apply(
  vm: VirtualMachine,
  of: {
    readonly claimName: string;
    readonly template: VolumeClaimTemplate;
    readonly requestBytes: number;
    readonly isNew: boolean;
  },
): Extract<Action, { kind: "apply-claim" }> {
  const { claimName, template, requestBytes, isNew } = of;
  const { name, namespace } = identityOf(vm);
  const { accessModes, volumeMode, storageClassName, dataSourceRef } = template.spec;
  const claim: PersistentVolumeClaim = {
    metadata: {
      name: claimName,
      namespace,
      labels: { ...template.metadata.labels, [MANAGED_BY_LABEL]: MANAGED_BY, [VM_LABEL]: name },
      ...(template.metadata.annotations === undefined ? {} : { annotations: template.metadata.annotations }),
      ...(goesWithMachine(vm) ? { ownerReferences: [ownerReferenceTo(vm)] } : {}),
    },
    spec: {
      accessModes,
      volumeMode,
      ...(storageClassName === undefined ? {} : { storageClassName }),
      ...(dataSourceRef === undefined ? {} : { dataSourceRef }),
      resources: { requests: { storage: formatBytes(requestBytes) } },
    },
  };
  return { kind: "apply-claim", claim, requestBytes, isNew };
}
