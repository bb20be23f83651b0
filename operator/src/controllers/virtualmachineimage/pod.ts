import type { ImporterTemplate } from "../../../../crds/src/pod-template.ts";
import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachineImageSpec } from "../../../../crds/src/virtualmachineimage.ts";
import { AGENT_MOUNT_PATH, AGENT_SOCKET_NAME, KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import { IMPORT_VERSION, type ImportConfig, type ImportSource } from "../../../../launcher/api/import.ts";
import type { OwnerReference, PersistentVolumeClaim, Pod } from "../../runtime/wire.ts";
import { MANAGED_BY, MANAGED_BY_LABEL } from "../virtualmachine/names.ts";
import {
  annotations,
  IMPORT_LABEL,
  IMPORTER_CONTAINER,
  NO_PROVISIONER,
  paths,
  podNameOf,
  primeNameOf,
} from "./names.ts";
import type { ClaimFacts, StorageClassFacts, StoredImage } from "./observation.ts";
import type { ImportSettings } from "./settings.ts";
import { sourceDigest, templateDigest } from "./source.ts";

type PodSpec = NonNullable<Pod["spec"]>;
type Volume = NonNullable<PodSpec["volumes"]>[number];
type Container = PodSpec["containers"][number];

/** User and group of launchers, whose the disk shall be. */
const LAUNCHER_UID = 10001;
const CONTAINER_DISK_GID = 107;
/** The importer ends at once: what is half written is nobody's. */
const GRACE_SECONDS = 5;

/** Everything of an import belongs to the claim that it is for, and goes with it. */
function ownerReferenceTo({ name, uid }: ClaimFacts): OwnerReference {
  return { apiVersion: "v1", kind: "PersistentVolumeClaim", name, uid, controller: true };
}

/** The claim that is filled: as the user's, but of nothing, and with a consumer where the user's has one. */
export function primeClaim(claim: ClaimFacts, backing: StorageClassFacts, requestBytes: string): PersistentVolumeClaim {
  const onNode = claim.selectedNode !== undefined && backing.waitsForConsumer && backing.provisioner !== NO_PROVISIONER;
  return {
    metadata: {
      name: primeNameOf(claim.uid),
      namespace: claim.namespace,
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [IMPORT_LABEL]: claim.uid },
      ...(onNode ? { annotations: { [annotations.selectedNode]: claim.selectedNode ?? "" } } : {}),
      ownerReferences: [ownerReferenceTo(claim)],
    },
    spec: {
      accessModes: [...claim.accessModes],
      volumeMode: claim.mode,
      storageClassName: backing.name,
      resources: { requests: { storage: requestBytes } },
    },
  };
}

export interface ImporterParts {
  readonly image: StoredImage;
  readonly claim: ClaimFacts;
  readonly prime: ClaimFacts;
  /** Where the image is another claim. */
  readonly source: ClaimFacts | undefined;
  readonly settings: ImportSettings;
}

/**
 * Instead of the image's. Each compressed cluster has a decompressor, which is freed with its object in JavaScript: a young
 * generation that may grow keeps thousands, and takes 50 MiB more.
 */
export const IMPORTER_NODE_OPTIONS = "--max-semi-space-size=1";

/** The pod that fills the prime claim. It fits Pod Security `restricted`, and knows no API server. */
export function importerPod(parts: ImporterParts): Pod {
  const { image, claim, settings } = parts;
  const sources = sourceParts(image.spec, parts.source);
  const { resources, imagePullSecrets = [], ...placement } = image.spec.template?.spec ?? {};
  const pullSecrets = [...imagePullSecrets, ...settings.imagePullSecrets.map((name) => ({ name }))];
  return {
    metadata: {
      name: podNameOf(claim.uid),
      namespace: claim.namespace,
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [IMPORT_LABEL]: claim.uid },
      annotations: {
        [annotations.source]: sourceDigest(image.spec),
        [annotations.template]: templateDigest(image.spec),
      },
      ownerReferences: [ownerReferenceTo(claim)],
    },
    spec: {
      ...(placement as Partial<PodSpec>),
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      ...(pullSecrets.length === 0 ? {} : { imagePullSecrets: pullSecrets }),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: LAUNCHER_UID,
        runAsGroup: LAUNCHER_UID,
        fsGroup: LAUNCHER_UID,
        supplementalGroups: [CONTAINER_DISK_GID],
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [container(parts, sources, resources)],
      volumes: [
        { name: "target", persistentVolumeClaim: { claimName: parts.prime.name } },
        { name: "scratch", emptyDir: {} },
        ...sources.volumes,
      ],
    },
  };
}

interface SourceParts {
  readonly source: ImportSource;
  readonly volumes: readonly Volume[];
  readonly mounts: NonNullable<Container["volumeMounts"]>;
  readonly devices: NonNullable<Container["volumeDevices"]>;
}

type Resources = NonNullable<NonNullable<ImporterTemplate["spec"]>["resources"]>;

function container(
  { claim, prime, settings }: ImporterParts,
  { source, mounts, devices }: SourceParts,
  own: Resources = {},
): Container {
  const isBlock = claim.mode === "Block";
  // The node agent opens devices, for those who have its resource.
  const needsAgent = isBlock || devices.length > 0;
  const agent = needsAgent ? { [KVM_RESOURCE]: "1" } : {};
  const requests = { cpu: settings.cpuRequest, memory: settings.memoryRequest, ...asText(own.requests), ...agent };
  const config: ImportConfig = {
    version: IMPORT_VERSION,
    source,
    target: {
      kind: isBlock ? "device" : "directory",
      path: isBlock ? paths.targetDevice : paths.target,
      sizeBytes: prime.capacityBytes ?? claim.requestBytes,
    },
    scratchDirectory: paths.scratch,
    // It takes what is set aside for it and no more: a limit that is far above is for page cache.
    memoryBytes: Math.max(1, Math.floor(parseQuantity(requests.memory))),
    ...(needsAgent ? { agentSocketPath: `${AGENT_MOUNT_PATH}/${AGENT_SOCKET_NAME}` } : {}),
    telemetry: { address: settings.listenAddress, port: settings.telemetryPort },
    terminationMessagePath: paths.terminationMessage,
    log: { level: settings.logLevel },
  };
  const allDevices = [...(isBlock ? [{ name: "target", devicePath: paths.targetDevice }] : []), ...devices];
  return {
    name: IMPORTER_CONTAINER,
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    args: ["import", JSON.stringify(config)],
    env: [{ name: "NODE_OPTIONS", value: IMPORTER_NODE_OPTIONS }],
    ports: [{ name: "telemetry", containerPort: settings.telemetryPort, protocol: "TCP" }],
    resources: {
      requests,
      limits: { memory: settings.memoryLimit, ...asText(own.limits), ...agent },
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
    },
    terminationMessagePath: paths.terminationMessage,
    terminationMessagePolicy: "File",
    volumeMounts: [
      ...(isBlock ? [] : [{ name: "target", mountPath: paths.target }]),
      { name: "scratch", mountPath: paths.scratch },
      ...mounts,
    ],
    ...(allDevices.length === 0 ? {} : { volumeDevices: allDevices }),
  };
}

function asText(quantities: Readonly<Record<string, string | number>> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(quantities).map(([name, quantity]) => [name, String(quantity)]));
}

/** Readable by the importer through the pod's fsGroup. */
const FILE_MODE = 0o440;

function sourceParts(spec: VirtualMachineImageSpec, other: ClaimFacts | undefined): SourceParts {
  const { http, image, persistentVolumeClaim } = spec.source;
  if (http !== undefined) return httpParts(http);
  if (image !== undefined) {
    const { path, ...volume } = image;
    return {
      source: { kind: "image", imageRoot: paths.image, ...(path === undefined ? {} : { path }) },
      volumes: [{ name: "image", image: volume }],
      mounts: [{ name: "image", mountPath: paths.image, readOnly: true }],
      devices: [],
    };
  }
  const isBlock = other?.mode === "Block";
  const claimName = persistentVolumeClaim?.name ?? "";
  const path = isBlock ? paths.sourceDevice : paths.source;
  return {
    source: { kind: "disk", volume: { kind: isBlock ? "device" : "directory", path } },
    volumes: [{ name: "source", persistentVolumeClaim: { claimName, readOnly: true } }],
    mounts: isBlock ? [] : [{ name: "source", mountPath: paths.source, readOnly: true }],
    devices: isBlock ? [{ name: "source", devicePath: paths.sourceDevice }] : [],
  };
}

function httpParts(http: NonNullable<VirtualMachineImageSpec["source"]["http"]>): SourceParts {
  const { url, checksum, secretRef, caConfigMapRef } = http;
  const [algorithm, digest] =
    checksum?.sha256 === undefined ? (["sha512", checksum?.sha512] as const) : (["sha256", checksum.sha256] as const);
  return {
    source: {
      kind: "http",
      url,
      ...(digest === undefined ? {} : { checksum: { algorithm, digest } }),
      ...(secretRef === undefined ? {} : { credentialsDirectory: paths.credentials }),
      ...(caConfigMapRef === undefined ? {} : { authoritiesDirectory: paths.authorities }),
    },
    volumes: [
      ...(secretRef === undefined
        ? []
        : [{ name: "credentials", secret: { secretName: secretRef.name, defaultMode: FILE_MODE } }]),
      ...(caConfigMapRef === undefined ? [] : [{ name: "authorities", configMap: { name: caConfigMapRef.name } }]),
    ],
    mounts: [
      ...(secretRef === undefined ? [] : [{ name: "credentials", mountPath: paths.credentials, readOnly: true }]),
      ...(caConfigMapRef === undefined ? [] : [{ name: "authorities", mountPath: paths.authorities, readOnly: true }]),
    ],
    devices: [],
  };
}
