import { formatBytes } from "../../../../crds/src/quantity.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import type { Pod } from "../../runtime/wire.ts";
import { LAUNCHER_CONTAINER } from "./names.ts";
import type { NodeFacts, PodWarning } from "./observation.ts";
import { memoryRequestBytes } from "./overhead.ts";
import type { Settings } from "./settings.ts";
import { missingPullSecrets, troubleOf } from "./trouble.ts";

/** Why a machine is not running yet. */
export interface Waiting {
  readonly reason: Reason;
  readonly message: string;
  /** Only a change by someone helps. */
  readonly stalled: boolean;
  /** No node of the cluster would do, whatever else comes. */
  readonly isOfNodes?: true;
}

const IMAGE_REASONS = new Set(["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError"]);
const CONTAINER_REASONS = new Set(["CreateContainerConfigError", "CreateContainerError", "RunContainerError"]);

/** What a pending pod waits for. */
export function whatPodWaitsFor(
  pod: Pod,
  context: {
    readonly spec: VirtualMachineSpec;
    readonly settings: Settings;
    readonly nodes: readonly NodeFacts[];
    readonly warnings: readonly PodWarning[];
  },
): Waiting {
  const scheduled = pod.status?.conditions?.find((condition) => condition.type === "PodScheduled");
  if (pod.spec?.nodeName === undefined) {
    return scheduled?.reason === "Unschedulable"
      ? unschedulable(scheduled.message ?? "", context)
      : { reason: "Pending", message: `Pod ${pod.metadata?.name} waits for the scheduler`, stalled: false };
  }
  const container = pod.status?.containerStatuses?.find((status) => status.name === LAUNCHER_CONTAINER);
  const waiting = container?.state?.waiting;
  const reason = waiting?.reason ?? "";
  const message = waiting?.message ?? reason;
  if (reason === "InvalidImageName") {
    return { reason: "ImagePullFailed", message: `${message}; correct the image reference`, stalled: true };
  }
  if (IMAGE_REASONS.has(reason) || /\b(ErrImagePull|ImagePullBackOff|pulling image)\b/.test(message)) {
    return imageNotPulled(message, missingPullSecrets(context.warnings), context.settings);
  }
  if (CONTAINER_REASONS.has(reason)) {
    return { reason: "ContainerNotStarted", message: `Node ${pod.spec.nodeName}: ${message}`, stalled: false };
  }
  const trouble = troubleOf(pod, context.warnings);
  if (trouble !== undefined) {
    return trouble;
  }
  return {
    reason: "Scheduled",
    message: `Node ${pod.spec.nodeName} pulls the images and mounts the volumes of pod ${pod.metadata?.name}`,
    stalled: false,
  };
}

function imageNotPulled(message: string, missing: readonly string[], settings: Settings): Waiting {
  const [secret] = missing;
  if (secret === undefined) {
    const help = "check the reference, that the node can reach the registry, and imagePullSecrets";
    return { reason: "ImagePullFailed", message: `${message}; ${help}`, stalled: false };
  }
  const byChart = settings.launcherImagePullSecrets.includes(secret);
  const where = byChart ? "the chart's values for the launcher's image" : "spec.template.spec.imagePullSecrets";
  const help = `create it in the machine's namespace, or correct ${where}`;
  return {
    reason: "SecretNotFound",
    message: `Secret ${missing.join(", ")} does not exist, and without it an image cannot be pulled: ${message}; ${help}`,
    stalled: false,
  };
}

function unschedulable(
  message: string,
  { spec, settings, nodes }: { spec: VirtualMachineSpec; settings: Settings; nodes: readonly NodeFacts[] },
): Waiting {
  if (!nodes.some((node) => node.kvmDevices > 0)) {
    const help =
      "no node offers it; check that the typevisor-node DaemonSet runs on the nodes for machines, and that they have /dev/kvm (virtualization enabled in firmware, or nested virtualization)";
    return {
      reason: "Unschedulable",
      message: `The pod needs ${KVM_RESOURCE}, and ${help}`,
      stalled: false,
      isOfNodes: true,
    };
  }
  const needed = memoryRequestBytes(spec, settings);
  const largest = Math.max(...nodes.filter((node) => node.kvmDevices > 0).map((node) => node.memoryBytes));
  if (needed > largest) {
    const sizes = `The pod needs ${mebibytes(needed)} (spec.memory.size and the overhead), and the largest node for machines has ${mebibytes(largest)}`;
    return {
      reason: "Unschedulable",
      message: `${sizes}; make spec.memory.size smaller or add a larger node`,
      stalled: false,
      isOfNodes: true,
    };
  }
  return { reason: "Unschedulable", message: message || "The scheduler found no node", stalled: false };
}

function mebibytes(bytes: number): string {
  return formatBytes(Math.ceil(bytes / 2 ** 20) * 2 ** 20);
}
