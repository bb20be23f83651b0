import { ApiError } from "../../runtime/errors.ts";
import { podNameOf } from "./names.ts";
import type { Refusal } from "./observation.ts";

/** What it means that the API server refused a pod; undefined where trying again soon is all there is to it. */
export function refusalOf(error: unknown, generation: number): Omit<Refusal, "count" | "atMs"> | undefined {
  if (!(error instanceof ApiError)) {
    return undefined;
  }
  const said = error.status.message ?? error.message;
  if (error.isInvalid) {
    return { reason: "PodInvalid", message: `The pod is invalid: ${said}; correct spec.template`, generation };
  }
  // A namespace on its way out takes nothing new, and its VirtualMachines go with it.
  const terminating = error.status.details?.causes?.some((cause) => cause.reason === "NamespaceTerminating");
  // In a namespace that was made a moment ago, the controller manager has yet to make the service account.
  const young = /service account .* not found/i.test(said);
  if (!error.isForbidden || terminating || young) {
    return undefined;
  }
  if (/exceeded quota|maximum (memory|cpu) usage|failed quota/i.test(said)) {
    const help = "make room in the namespace's ResourceQuota or LimitRange, or make the machine smaller";
    return { reason: "QuotaExceeded", message: `${said}; ${help}`, generation };
  }
  if (/no PriorityClass with name/i.test(said)) {
    const help = "create it, or correct spec.template.spec.priorityClassName";
    return { reason: "PodForbidden", message: `${said}; ${help}`, generation };
  }
  return { reason: "PodForbidden", message: said, generation };
}

/** Message for a pod of the machine's name that is not its own. */
export function nameConflict(vmName: string): string {
  return `Pod ${podNameOf(vmName)} exists and belongs to something else; delete it, or give the VirtualMachine another name`;
}
