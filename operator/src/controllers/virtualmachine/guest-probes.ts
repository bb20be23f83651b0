import type { Probe } from "../../../../crds/src/probe.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { LAUNCHER_CONTAINER } from "./names.ts";

type Container = NonNullable<Pod["spec"]>["containers"][number];
type PodProbe = NonNullable<Container["readinessProbe"]>;

const LAUNCHER_PORT = "telemetry";

/**
 * Probes of the pod: those of the guest, where the spec has some, in place of the launcher's. The kubelet asks at the
 * pod's IP, where the guest's ports are, so that what a probe proves is what clients get. A launcher that hangs takes its
 * guest's network with it, and so fails the guest's probe.
 */
export function podProbes(spec: VirtualMachineSpec): Pick<Container, "readinessProbe" | "livenessProbe"> {
  const launcher = (path: string) => ({ httpGet: { path, port: LAUNCHER_PORT } });
  return {
    readinessProbe: spec.readinessProbe
      ? guestProbe(spec.readinessProbe)
      : { ...launcher("/readyz"), periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2 },
    livenessProbe: spec.livenessProbe
      ? guestProbe(spec.livenessProbe)
      : // A hung event loop is a dead machine; but a slow minute of the node is not.
        { ...launcher("/healthz"), periodSeconds: 10, timeoutSeconds: 10, failureThreshold: 12 },
  };
}

function guestProbe({ httpGet, tcpSocket, exec: _, ...times }: Probe): PodProbe {
  return { ...times, ...(httpGet === undefined ? {} : { httpGet }), ...(tcpSocket === undefined ? {} : { tcpSocket }) };
}

/** The pod's readiness is the guest's own, by the probe that its spec had when the pod was made. */
export function hasGuestReadiness(pod: Pod): boolean {
  return isOfGuest(launcherOf(pod)?.readinessProbe);
}

/** The kubelet ends the pod when the guest does not answer. */
export function hasGuestLiveness(pod: Pod): boolean {
  return isOfGuest(launcherOf(pod)?.livenessProbe);
}

/** How a probe is called in messages, e.g. "httpGet of port 80, path /healthz". */
export function describeReadiness(pod: Pod): string {
  const { httpGet, tcpSocket } = launcherOf(pod)?.readinessProbe ?? {};
  return httpGet === undefined
    ? `tcpSocket of port ${tcpSocket?.port}`
    : `httpGet of port ${httpGet.port}, path ${httpGet.path ?? "/"}`;
}

function isOfGuest(probe: PodProbe | undefined): boolean {
  return probe !== undefined && probe.httpGet?.port !== LAUNCHER_PORT;
}

function launcherOf(pod: Pod): Container | undefined {
  return pod.spec?.containers.find(({ name }) => name === LAUNCHER_CONTAINER);
}
