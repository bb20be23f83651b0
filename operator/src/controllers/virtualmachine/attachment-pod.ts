import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import type { Pod } from "../../runtime/wire.ts";
import { diskDigest } from "./attachments.ts";
import type { Claims } from "./claims.ts";
import { diskParts } from "./disk-parts.ts";
import { ATTACHMENT_LABEL, annotations, identityOf, MANAGED_BY, MANAGED_BY_LABEL } from "./names.ts";
import { containerSecurity, ownerReferenceTo, podSecurity, SHUTDOWN_MARGIN_SECONDS } from "./pod.ts";
import type { Settings } from "./settings.ts";

/** What an attachment pod is made from besides the VirtualMachine. */
export interface AttachmentInputs {
  readonly settings: Settings;
  readonly name: string;
  readonly disk: Disk;
  readonly claims: Claims;
  /** The pod of the launcher that shall have the disk; it has a node. */
  readonly launcher: Pod;
}

/** Measured: 12 MiB private of one Node process that waits, and 28 MiB at a launcher's largest. */
const REQUESTS = { cpu: "5m", memory: "32Mi" };
/** Its holder outlasts the launcher, which it cannot see the end of at once. */
const AFTER_LAUNCHER_SECONDS = 20;

/**
 * A pod on the launcher's node that has the volume of one disk, which a pod can not be given once it runs. Its only
 * process hands the disk to the launcher, and stays, since the volume leaves the node with the pod.
 */
export function attachmentPod(vm: VirtualMachine, inputs: AttachmentInputs): Pod {
  const { settings, name, disk, launcher } = inputs;
  const identity = identityOf(vm);
  const grace = vm.spec.terminationGracePeriodSeconds + SHUTDOWN_MARGIN_SECONDS + AFTER_LAUNCHER_SECONDS;
  const { priorityClassName, imagePullSecrets, tolerations } = launcher.spec ?? {};
  const parts = diskParts(disk, vm, inputs.claims);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: identity.namespace,
      // Not the launcher's label: Services of the machine select that.
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [ATTACHMENT_LABEL]: identity.name },
      annotations: {
        [annotations.attachedDisk]: disk.name,
        [annotations.attachedAs]: diskDigest(disk),
        [annotations.attachedTo]: launcher.metadata?.uid ?? "",
      },
      ownerReferences: [ownerReferenceTo(vm)],
    },
    spec: {
      restartPolicy: "OnFailure",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: grace,
      ...(priorityClassName === undefined ? {} : { priorityClassName }),
      ...(imagePullSecrets === undefined ? {} : { imagePullSecrets }),
      affinity: onNode(launcher.spec?.nodeName ?? ""),
      // Where the machine runs, its disk may come, though nothing new is to be placed there.
      tolerations: [
        { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
        ...(tolerations ?? []),
      ],
      securityContext: podSecurity,
      containers: [
        {
          name: "holder",
          image: settings.launcherImage,
          imagePullPolicy: settings.launcherImagePullPolicy,
          args: holdArguments(disk, parts, launcher.metadata?.uid ?? ""),
          resources: { requests: { ...REQUESTS, [KVM_RESOURCE]: "1" }, limits: { [KVM_RESOURCE]: "1" } },
          securityContext: containerSecurity,
          terminationMessagePolicy: "FallbackToLogsOnError",
          volumeMounts: [...parts.mounts],
          ...(parts.devices.length === 0 ? {} : { volumeDevices: [...parts.devices] }),
        },
      ],
      volumes: [...parts.volumes],
    },
  };
}

function holdArguments(disk: Disk, { source, readOnly }: ReturnType<typeof diskParts>, launcherUID: string): string[] {
  const common = ["hold", "--disk", disk.name, "--to", launcherUID, ...(readOnly ? ["--read-only"] : [])];
  if (source.kind === "raw") return [...common, "--device", source.path];
  if (source.kind === "directory")
    return [...common, "--directory", source.path, "--size-bytes", String(source.sizeBytes)];
  throw new TypeError(`a disk of kind ${source.kind} is not on a claim`);
}

/** By the scheduler, which binds claims that wait for their first consumer, and knows what the node has room for. */
function onNode(name: string) {
  const matchFields = [{ key: "metadata.name", operator: "In", values: [name] }];
  return {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchFields }] } },
  };
}
