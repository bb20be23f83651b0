import type { KubernetesObject, ObjectMeta } from "../../../operator/src/runtime/wire.ts";
import type { Machine } from "../cluster/machines.ts";

export const POD_UID = "9b7c1f0e-0000-4000-8000-000000000002";
const UID = "9b7c1f0e-0000-4000-8000-000000000001";
const SINCE = "2026-03-01T11:30:00Z";

type Conditions = NonNullable<NonNullable<Machine["status"]>["conditions"]>;

/** A condition that holds since half an hour. */
export function condition(type: string, status: "True" | "False", reason: string, message = ""): Conditions[number] {
  return { type, status, reason, message, observedGeneration: 1, lastTransitionTime: SINCE } as Conditions[number];
}

/** A machine that runs; `spec` and `status` override. */
export function machine(
  name = "web",
  { spec, status, metadata }: { spec?: object; status?: object; metadata?: ObjectMeta } = {},
): Machine & KubernetesObject {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: {
      name,
      namespace: "team-a",
      uid: UID,
      generation: 1,
      creationTimestamp: "2026-02-27T12:00:00Z",
      labels: { app: name },
      ...metadata,
    },
    spec: {
      runStrategy: "Always",
      paused: false,
      cpu: { cores: 2, model: "Host" },
      memory: { size: "1Gi" },
      disks: [],
      evictionStrategy: "None",
      terminationGracePeriodSeconds: 120,
      ...spec,
    },
    status: {
      observedGeneration: 1,
      phase: "Running",
      conditions: [
        condition("Ready", "True", "Running", "The guest runs"),
        condition("Stalled", "False", "AsExpected"),
      ],
      node: "node-1",
      podName: `vm-${name}`,
      podUID: POD_UID,
      podIP: "10.244.0.12",
      startedAt: SINCE,
      launcherVersion: "0.1.0",
      restarts: 1,
      ...status,
    },
  } as Machine & KubernetesObject;
}

/** The launcher pod of `machine(name)`. */
export function launcherPod(name = "web"): KubernetesObject {
  return {
    metadata: {
      name: `vm-${name}`,
      namespace: "team-a",
      uid: POD_UID,
      labels: { "typevisor.io/vm": name, app: name },
      ownerReferences: [
        { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", name, uid: UID, controller: true },
      ],
    },
    spec: {
      nodeName: "node-1",
      containers: [{ name: "launcher", ports: [{ name: "telemetry", containerPort: 10080 }] }],
      terminationGracePeriodSeconds: 130,
    },
    status: { phase: "Running", containerStatuses: [{ name: "launcher", state: { running: { startedAt: SINCE } } }] },
  } as KubernetesObject;
}
