import type { VirtualMachineSpec } from "../../../../../crds/src/virtualmachine.ts";
import type { InterfaceStatus, LauncherStatus } from "../../../../../launcher/api/control.ts";
import type { Pod } from "../../../runtime/wire.ts";
import type { ClaimFacts, Claims } from "../claims.ts";
import { LAUNCHER_CONTAINER } from "../names.ts";
import { type LauncherFacts, type NodeFacts, type Observation, readinessOf } from "../observation.ts";
import type { StoredVirtualMachine } from "../observe.ts";
import { launcherPod } from "../pod.ts";
import type { Settings } from "../settings.ts";

/** The moment at which tables are decided. */
export const NOW_MS = Date.parse("2026-05-06T07:08:09Z");
export const at = (offsetSeconds: number) => `${new Date(NOW_MS + offsetSeconds * 1000).toISOString().slice(0, 19)}Z`;

export const VM_UID = "0f9a6c1e-0000-4000-8000-000000000001";
export const POD_UID = "11111111-0000-4000-8000-000000000001";
export const TRUST = "trust-1";

export const settings: Settings = {
  launcherImage: "registry.example/launcher:1",
  launcherImagePullPolicy: "IfNotPresent",
  launcherImagePullSecrets: [],
  launcherLogLevel: "info",
  launcherSeccomp: "RuntimeDefault",
  overhead: { fixedBytes: 48 * 2 ** 20, perCpuBytes: 2 ** 20, perGuestGiBytes: 8 * 2 ** 20 },
  overlaySizeLimitBytes: 10 * 2 ** 30,
  cpuRatio: 0.1,
  listenAddress: "0.0.0.0",
  controlPort: 10443,
  telemetryPort: 10080,
  migrationPort: 10444,
};

export const spec: VirtualMachineSpec = {
  runStrategy: "Always",
  paused: false,
  cpu: { cores: 2, model: "Host" },
  memory: { size: "1Gi" },
  boot: {
    kernel: {
      image: { reference: "registry.example/debian:13" },
      path: "/boot/vmlinuz",
      initrd: "/boot/initrd.img",
      cmdline: "root=/dev/vda",
    },
  },
  disks: [{ name: "root", readOnly: false, image: { reference: "registry.example/debian:13" } }],
  evictionStrategy: "None",
  terminationGracePeriodSeconds: 120,
};

/** A VirtualMachine as the API server gives it. */
export function machine(changes: Partial<VirtualMachineSpec> = {}): StoredVirtualMachine {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: {
      name: "web",
      namespace: "shop",
      uid: VM_UID,
      generation: 3,
      labels: { app: "web" },
      creationTimestamp: at(-1000),
    },
    spec: { ...structuredClone(spec), ...changes },
  };
}

export const node: NodeFacts = {
  name: "node-1",
  ready: "True",
  outOfService: false,
  kvmDevices: 100,
  memoryBytes: 8 * 2 ** 30,
  cpu: undefined,
};

/** The machine's pod as its node shows it at some point of its life. */
export function podOf(
  vm: StoredVirtualMachine,
  stage: "unscheduled" | "scheduled" | "running",
  claims: Claims = {},
): Pod {
  const made = launcherPod(vm, { settings, restarts: 0, certificateRenewAt: at(1_000_000), trustId: TRUST, claims });
  const metadata = { ...made.metadata, uid: POD_UID, creationTimestamp: at(-60) };
  if (stage === "unscheduled" || made.spec === undefined) {
    return { ...made, metadata, status: { phase: "Pending" } };
  }
  const placed = { ...made.spec, nodeName: node.name };
  if (stage === "scheduled") {
    return { ...made, metadata, spec: placed, status: { phase: "Pending" } };
  }
  const running = { running: { startedAt: at(-50) } };
  return {
    ...made,
    metadata,
    spec: placed,
    status: {
      phase: "Running",
      podIP: "10.0.0.7",
      conditions: [{ type: "Ready", status: "False", lastTransitionTime: at(-50) }],
      containerStatuses: [container(running)],
    },
  };
}

/** A claim of 10 GiB that is bound to a volume of that size. */
export function claim(name: string, changes: Partial<ClaimFacts> = {}): ClaimFacts {
  return {
    name,
    phase: "Bound",
    mode: "Filesystem",
    accessModes: ["ReadWriteOnce"],
    storageClassName: "fast",
    requestBytes: 10 * 2 ** 30,
    capacityBytes: 10 * 2 ** 30,
    deleting: false,
    import: undefined,
    vmName: undefined,
    owners: [],
    ...changes,
  };
}

type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

export function container(state: NonNullable<ContainerStatus["state"]>): ContainerStatus {
  return { name: LAUNCHER_CONTAINER, image: "", imageID: "", ready: false, restartCount: 0, state };
}

/** The machine's pod after its launcher ended. */
export function endedPod(
  vm: StoredVirtualMachine,
  end: {
    readonly exitCode: number;
    readonly message?: string;
    readonly reason?: string;
    readonly endedSecondsAgo?: number;
  },
): Pod {
  const pod = podOf(vm, "running");
  const finishedAt = at(-(end.endedSecondsAgo ?? 1));
  const terminated = {
    exitCode: end.exitCode,
    reason: end.reason ?? (end.exitCode === 0 ? "Completed" : "Error"),
    startedAt: at(-50),
    finishedAt,
    ...(end.message === undefined ? {} : { message: end.message }),
  };
  const phase = end.exitCode === 0 ? "Succeeded" : "Failed";
  return { ...pod, status: { phase, podIP: "10.0.0.7", containerStatuses: [container({ terminated })] } };
}

/** A launcher's last word. */
export const lastWord = (reason: string, message = `because of ${reason}`) =>
  JSON.stringify({ version: 1, reason, message });

/** The API server's refusal of a node to take the pod. */
export function rejectedPod(vm: StoredVirtualMachine, reason = "UnexpectedAdmissionError"): Pod {
  const pod = podOf(vm, "scheduled");
  const startTime = at(-5);
  return { ...pod, status: { phase: "Failed", reason, message: "Allocate failed", startTime } };
}

/** The machine's pod after the power of its node was cut: the kubelet knows no time, and writes null for it. */
export function lostPod(vm: StoredVirtualMachine): Pod {
  const terminated = JSON.parse(
    '{"exitCode":137,"reason":"ContainerStatusUnknown","message":"not located","startedAt":null,"finishedAt":null}',
  );
  const pod = rejectedPod(vm);
  return { ...pod, status: { ...pod.status, containerStatuses: [container({ terminated })] } };
}

export function launcherSays(pod: Pod, status: Partial<LauncherStatus>): LauncherFacts {
  const full: LauncherStatus = {
    apiVersion: 1,
    launcherVersion: "1.2.3",
    state: "Running",
    reason: "Running",
    message: "",
    startedAt: `${at(-40).slice(0, 19)}.250Z`,
    reboots: 0,
    guestPanicked: false,
    cpus: 2,
    memoryBytes: 2 ** 30,
    milestones: {},
    exits: {},
    ...status,
  };
  const podUID = pod.metadata?.uid ?? "";
  return {
    podUID,
    askedSinceMs: NOW_MS,
    status: full,
    answeredAtMs: NOW_MS,
    error: undefined,
    readiness: readinessOf(pod),
  };
}

/** An interface as a launcher tells of it. */
export function networkInterface(name: string, changes: Partial<InterfaceStatus> = {}): InterfaceStatus {
  const addresses = ["10.0.2.2"];
  const mac = "02:aa:bb:cc:dd:ee";
  return { name, mac, link: "up", mtuBytes: 1500, queues: 2, dataPath: "inProcess", addresses, ...changes };
}

export function observation(vm: StoredVirtualMachine, parts: Partial<Observation> = {}): Observation {
  const onNode = parts.pod?.spec?.nodeName !== undefined;
  return {
    vm,
    pod: undefined,
    incoming: undefined,
    migrations: [],
    movedDisks: [],
    departed: undefined,
    node: onNode ? node : undefined,
    nodes: onNode || parts.pod === undefined ? [] : [node],
    launcher: undefined,
    claims: {},
    rivals: [],
    attachments: [],
    attachmentRivals: [],
    attachmentWarnings: {},
    deviceRefusals: {},
    claimRefusals: {},
    refusal: undefined,
    warnings: [],
    trustId: TRUST,
    ...parts,
  };
}
