import { isDeepStrictEqual } from "node:util";
import { MULTUS_NETWORKS_ANNOTATION, type NetworkInterface } from "../../../../crds/src/interface.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { InterfaceStatus, LauncherStatus } from "../../../../launcher/api/control.ts";
import { doubling } from "../../runtime/back-off.ts";
import type { Pod } from "../../runtime/wire.ts";
import { askAgainAtMs } from "./ask-again.ts";
import { interfaceKey } from "./device-refused.ts";
import { hotInterfaces, startedInterfaces } from "./drift.ts";
import { podNetworks } from "./interface-status.ts";
import { interfaceConfigs, type MultusNetwork, multusNetworks, podInterfaceOf } from "./interfaces.ts";
import { annotations } from "./names.ts";
import type { Observation } from "./observation.ts";
import type { Action } from "./plan.ts";
import type { Settings } from "./settings.ts";

/** How long the CNI side may take to put an interface into a running pod before it is taken for one that never does. */
export const NETWORK_PATIENCE_MS = 30_000;
const REFUSED_MIN_DELAY_MS = 500;
const REFUSED_MAX_DELAY_MS = 30_000;

export interface InterfacePlan {
  readonly actions: readonly Action[];
  readonly wakeAtMs: number | undefined;
  /** What interfaces that come or go wait for, by name. */
  readonly waits: Readonly<Record<string, { readonly reason: Reason; readonly message: string }>>;
  /** Interfaces that the running machine does not get, with a sentence each: they take a restart. */
  readonly stuck: Readonly<Record<string, string>>;
  /** True where the launcher has not been heard: what was known before holds. */
  readonly isUnknown: boolean;
}

const NOTHING: InterfacePlan = { actions: [], wakeAtMs: undefined, waits: {}, stuck: {}, isUnknown: false };

/**
 * What brings the interfaces of a running machine to what its spec asks, where the CNI side can change the networks of a
 * running pod: the pod's annotation asks Multus for the network, its answer (network-status) shows the interface in the pod,
 * and then the launcher takes it. And the way back: the guest gives it up, and only then the pod loses it.
 */
export function interfacePlan(observation: Observation, settings: Settings, nowMs: number): InterfacePlan {
  const { vm, pod, launcher, node, incoming } = observation;
  const isLeaving = vm.metadata.deletionTimestamp !== undefined || pod?.metadata?.deletionTimestamp !== undefined;
  if (pod?.status?.phase !== "Running" || isLeaving || vm.spec.runStrategy === "Halted") return NOTHING;
  const started = startedInterfaces(pod);
  if (started === undefined) return NOTHING;
  const isLost = node === null || node?.ready === "Unknown";
  const status = launcher?.podUID === pod.metadata?.uid && !isLost ? launcher?.status : undefined;
  const isThere = status?.state === "Running" || status?.state === "Paused";
  // Its new pod is made as the old one is: nothing comes or goes until the machine has moved.
  if (!isThere || status?.interfaces === undefined || incoming !== undefined) {
    const missing = hotInterfaces(vm.spec, started).filter((entry) => isOverdue(observation, pod, { entry, nowMs }));
    return {
      ...NOTHING,
      stuck: Object.fromEntries(missing.map((entry) => [entry.name, whyStuck(entry)])),
      isUnknown: true,
    };
  }
  return new Planner({ observation, settings, nowMs, pod, status, started }).plan();
}

interface PlannerInputs {
  readonly observation: Observation;
  readonly settings: Settings;
  readonly nowMs: number;
  readonly pod: Pod;
  readonly status: LauncherStatus;
  readonly started: ReadonlySet<string>;
}

class Planner {
  readonly #in: PlannerInputs;
  /** What the pod asks Multus for now. */
  readonly #asked: readonly MultusNetwork[];
  readonly #actions: Action[] = [];
  readonly #waits: Record<string, { reason: Reason; message: string }> = {};
  readonly #stuck: Record<string, string> = {};
  #wakeAtMs: number | undefined;

  constructor(inputs: PlannerInputs) {
    this.#in = inputs;
    this.#asked = askedNetworks(inputs.pod);
  }

  plan(): InterfacePlan {
    const { observation, started, status } = this.#in;
    const wanted = hotInterfaces(observation.vm.spec, started);
    const networks = this.#keptNetworks();
    for (const entry of wanted) networks.push(...this.#bring(entry));
    for (const seen of status.interfaces ?? [])
      if (!started.has(seen.name) && !wanted.some(({ name }) => name === seen.name)) {
        this.#take(seen);
        networks.push(...this.#askedFor(seen.name));
      }
    if (!sameNetworks(networks, this.#asked)) this.#ask(networks);
    const found = { actions: this.#actions, waits: this.#waits, stuck: this.#stuck };
    return { ...found, wakeAtMs: this.#wakeAtMs, isUnknown: false };
  }

  /** Of interfaces that the machine was started with: those stay with the pod, whatever the spec says by now. */
  #keptNetworks(): MultusNetwork[] {
    const own = new Set([...this.#in.started].map((name) => podInterfaceOf({ name })));
    return this.#asked.filter((network) => own.has(network.interface));
  }

  #askedFor(name: string): MultusNetwork[] {
    return this.#asked.filter((network) => network.interface === podInterfaceOf({ name }));
  }

  /** Towards an interface that the spec has; the networks that the pod is to have for it. */
  #bring(entry: NetworkInterface): MultusNetwork[] {
    const { observation, status } = this.#in;
    const wanted = multusNetworks(observation.vm, [entry]);
    const asked = this.#askedFor(entry.name);
    const seen = status.interfaces?.find(({ name }) => name === entry.name);
    if (seen !== undefined && (seen.state === "Detaching" || !sameNetworks(wanted, asked))) {
      this.#take(seen);
      return asked;
    }
    if (seen !== undefined) this.#attached(seen);
    else if (!sameNetworks(wanted, asked)) this.#wait(entry.name, "Multus is asked to put its network into the pod");
    else if (isInPod(this.#in.pod, wanted)) this.#attach(entry);
    else this.#awaitNetwork(entry);
    return wanted;
  }

  #awaitNetwork(entry: NetworkInterface): void {
    const { observation, nowMs, pod } = this.#in;
    if (isOverdue(observation, pod, { entry, nowMs })) {
      this.#stuck[entry.name] = whyStuck(entry);
      return;
    }
    this.#wake(patientUntilMs(pod));
    this.#wait(entry.name, `Multus has been asked to put network ${entry.multus?.networkName} into the running pod`);
  }

  #attach(entry: NetworkInterface): void {
    const { observation, settings, nowMs } = this.#in;
    const refusal = observation.deviceRefusals[interfaceKey(entry.name)];
    if (refusal !== undefined) {
      const reason = refusal.isPassing ? "InterfaceAttaching" : "InterfaceNotAttached";
      this.#waits[entry.name] = { reason, message: refusal.message };
      const againAtMs = refusal.atMs + doubling(REFUSED_MIN_DELAY_MS, REFUSED_MAX_DELAY_MS, refusal.count);
      if (nowMs < againAtMs) {
        this.#wake(againAtMs);
        return;
      }
    } else this.#wait(entry.name, "The launcher is asked to take it");
    const config = interfaceConfigs(observation.vm, settings).find(({ name }) => name === entry.name);
    if (config !== undefined) this.#actions.push({ kind: "attach-interface", ...this.#where, config });
  }

  #attached({ name, state }: InterfaceStatus): void {
    if (state !== "Attaching") return;
    this.#wait(name, "The guest has not taken it yet; it needs a driver for PCI hot-plug by ACPI");
    if (this.#isTimeToAsk()) this.#actions.push({ kind: "ask-launcher", ...this.#where, readiness: this.#readiness });
    else this.#wake(this.#askAtMs);
  }

  /** Towards a machine without the interface. */
  #take({ name, state }: InterfaceStatus): void {
    const isFirst = state !== "Detaching";
    if (isFirst || this.#isTimeToAsk())
      this.#actions.push({ kind: "detach-interface", ...this.#where, interfaceName: name });
    else this.#wake(this.#askAtMs);
    const message = "The guest was asked to give it up, and has not done so yet; a restart of the machine ends that";
    this.#waits[name] = { reason: "InterfaceDetaching", message };
  }

  #ask(networks: readonly MultusNetwork[]): void {
    const podUID = this.#in.pod.metadata?.uid ?? "";
    this.#actions.push({ kind: "ask-networks", podUID, networks: networks.length === 0 ? null : networks });
  }

  #wait(name: string, message: string): void {
    this.#waits[name] = { reason: "InterfaceAttaching", message };
  }

  get #where(): { readonly podUID: string; readonly ip: string } {
    const { pod } = this.#in;
    return { podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" };
  }

  get #readiness(): string {
    return this.#in.observation.launcher?.readiness ?? "";
  }

  #isTimeToAsk(): boolean {
    return this.#in.nowMs >= this.#askAtMs;
  }

  get #askAtMs(): number {
    return askAgainAtMs(this.#in.observation, this.#in.nowMs);
  }

  #wake(atMs: number): void {
    this.#wakeAtMs = Math.min(this.#wakeAtMs ?? atMs, atMs);
  }
}

/** Whether Multus says that the pod has the interfaces, and that they are on the networks of today. */
function isInPod(pod: Pod, wanted: readonly MultusNetwork[]): boolean {
  const there = podNetworks(pod);
  return wanted.every((network) =>
    there.some((each) => each.interface === network.interface && each.name === `${network.namespace}/${network.name}`),
  );
}

/** A pod that has not asked for anything yet is not waited for in vain. */
function patientUntilMs(pod: Pod): number {
  const askedAtMs = Date.parse(pod.metadata?.annotations?.[annotations.networksAskedAt] ?? "");
  return Number.isNaN(askedAtMs) ? Number.POSITIVE_INFINITY : askedAtMs + NETWORK_PATIENCE_MS;
}

function isOverdue(
  { vm }: Observation,
  pod: Pod,
  { entry, nowMs }: { readonly entry: NetworkInterface; readonly nowMs: number },
): boolean {
  return nowMs >= patientUntilMs(pod) && !isInPod(pod, multusNetworks(vm, [entry]));
}

function whyStuck({ multus }: NetworkInterface): string {
  return `network ${multus?.networkName} did not come into the running pod within ${NETWORK_PATIENCE_MS / 1000} s: the cluster has no dynamic networks controller for Multus, or the pod's events say why`;
}

/** What a pod asks Multus for, by its annotation; what cannot be read is none of ours. */
export function askedNetworks(pod: Pod): MultusNetwork[] {
  try {
    const networks: unknown = JSON.parse(pod.metadata?.annotations?.[MULTUS_NETWORKS_ANNOTATION] ?? "[]");
    return Array.isArray(networks) ? networks : [];
  } catch {
    return [];
  }
}

/** In whatever order. */
function sameNetworks(some: readonly MultusNetwork[], others: readonly MultusNetwork[]): boolean {
  const sorted = (networks: readonly MultusNetwork[]) =>
    networks.toSorted((a, b) => (String(a?.interface) < String(b?.interface) ? -1 : 1));
  return isDeepStrictEqual(sorted(some), sorted(others));
}

/** Interfaces that came to a running machine, and would stay behind when it moves. */
export function cameWhileRunning({ pod, launcher }: Observation): string[] {
  const started = pod === undefined ? undefined : startedInterfaces(pod);
  if (started === undefined || launcher?.podUID !== pod?.metadata?.uid) return [];
  return (launcher?.status?.interfaces ?? []).flatMap(({ name }) => (started.has(name) ? [] : [name]));
}
