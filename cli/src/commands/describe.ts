import { ApiError } from "../../../operator/src/runtime/errors.ts";
import {
  type KubernetesObject,
  type Node,
  type Pod,
  type Resource,
  resources,
} from "../../../operator/src/runtime/wire.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { findPod, getMachine, listAll, type Machine, orUndefined } from "../cluster/machines.ts";
import type { Environment } from "../environment.ts";
import { printValue } from "../output/objects.ts";
import { ageText } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";

/** As much of a core/v1 Event as is told. */
export interface EventFacts extends KubernetesObject {
  readonly type?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly count?: number;
  readonly series?: { readonly count?: number; readonly lastObservedTime?: string };
  readonly involvedObject?: { readonly kind?: string };
  readonly firstTimestamp?: string | null;
  readonly lastTimestamp?: string | null;
  readonly eventTime?: string | null;
}

/** All that `describe` tells of one machine; -o json prints it. */
export interface Story {
  readonly machine: Machine;
  readonly pod?: Pod;
  readonly node?: Node;
  readonly events: readonly EventFacts[];
  /** What could not be read, and why. */
  readonly missing: readonly string[];
}

const coreEvents: Resource = { group: "", version: "v1", plural: "events", kind: "Event", namespaced: true };
const EVENTS_SHOWN = 15;

/** `describe`: the story of a machine on one screen. */
export async function describeMachine(
  cluster: Cluster,
  name: string,
  options: { readonly output?: string },
  environment: Environment,
): Promise<void> {
  const story = await collect(cluster, name);
  const isWide = options.output === "wide";
  if (options.output === undefined || isWide) environment.stdout.write(storyText(story, environment.now(), isWide));
  else printValue(environment, story, options.output);
}

async function collect(cluster: Cluster, name: string): Promise<Story> {
  const machine = await getMachine(cluster, name);
  const missing: string[] = [];
  const [pod, node, events] = await Promise.all([
    permitted(findPod(cluster, machine), "its pod", missing),
    permitted(findNode(cluster, machine), "its node", missing),
    permitted(eventsOf(cluster, machine), "events", missing),
  ]);
  return {
    machine,
    ...(pod === undefined ? {} : { pod }),
    ...(node === undefined ? {} : { node }),
    events: events ?? [],
    missing,
  };
}

/** Who may see a machine need not see all else. */
async function permitted<T>(wanted: Promise<T>, what: string, missing: string[]): Promise<T | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (!(error instanceof ApiError && error.isForbidden)) throw error;
    missing.push(`${what}: you lack the right to read it`);
    return undefined;
  }
}

function findNode(cluster: Cluster, { status }: Machine): Promise<Node | undefined> {
  if (status?.node === undefined) return Promise.resolve(undefined);
  return orUndefined(cluster.client.get<Node>(resources.nodes, "", status.node));
}

async function eventsOf(cluster: Cluster, machine: Machine): Promise<EventFacts[]> {
  const { namespace, uid } = machine.metadata;
  const uids = [uid, machine.status?.podUID].filter((each) => each !== undefined);
  const lists = await Promise.all(
    uids.map((each) =>
      listAll<EventFacts>(cluster, coreEvents, { namespace, fieldSelector: `involvedObject.uid=${each}` }),
    ),
  );
  return lists.flat().sort((a, b) => lastTimeOf(a).localeCompare(lastTimeOf(b)));
}

/** The screen; wide, with all events, and with what ties machine and pod to other records. */
export function storyText(story: Story, nowMs: number, isWide: boolean): string {
  const { machine, events, missing } = story;
  const parts = [
    fields([...summary(story, nowMs), ...(isWide ? identity(story) : [])]),
    `\nConditions:\n${indented(conditionTable(machine, nowMs))}`,
    `\nDisks:\n${indented(diskTable(machine))}`,
    `\nInterfaces:\n${indented(interfaceTable(machine))}`,
    ...lastTermination(machine, nowMs),
    ...migrationUnderWay(machine),
    ...lastMigration(machine, nowMs),
    `\nEvents:\n${indented(eventTable(isWide ? events : events.slice(-EVENTS_SHOWN), events.length, nowMs))}`,
    ...missing.map((line) => `\nNot shown: ${line}\n`),
  ];
  return parts.join("");
}

function summary({ machine, pod, node }: Story, nowMs: number): [string, string][] {
  const { metadata, spec, status } = machine;
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  const stale = status?.observedGeneration !== metadata.generation;
  const overhead = status?.overhead?.memory === undefined ? "" : ` and ${status.overhead.memory} overhead`;
  return [
    ["Name", `${metadata.name}`],
    ["Namespace", `${metadata.namespace}`],
    ["Age", ageText(metadata.creationTimestamp, nowMs)],
    [
      "Phase",
      `${status?.phase ?? "Pending"}${stale ? " (the operator has not seen the last change of the spec yet)" : ""}`,
    ],
    ...(ready?.message ? [["Message", ready.message] as [string, string]] : []),
    ["Run strategy", `${spec.runStrategy}${spec.paused ? ", paused" : ""}`],
    ["Size", `${spec.cpu.cores} vCPU, ${spec.memory.size}${overhead}`],
    ["Boots", spec.boot?.kernel === undefined ? "firmware (UEFI)" : `kernel ${spec.boot.kernel.path}`],
    ["Pod", podText(machine, pod)],
    ["Node", nodeText(machine, node)],
    ["Address", status?.podIP ?? "none"],
    [
      "Running since",
      status?.startedAt === undefined ? "not running" : `${status.startedAt} (${ageText(status.startedAt, nowMs)})`,
    ],
    ["Restarts", `${status?.restarts ?? 0}${status?.reboots ? `, ${status.reboots} reboots in this run` : ""}`],
    ...(status?.nextStartTime === undefined ? [] : [["Next start", status.nextStartTime] as [string, string]]),
    ...(status?.launcherVersion === undefined ? [] : [["Launcher", status.launcherVersion] as [string, string]]),
  ];
}

function identity({ machine, pod, node }: Story): [string, string][] {
  const { metadata, status } = machine;
  const container = pod?.spec?.containers[0];
  const pairs: (readonly [string, string | undefined])[] = [
    ["UID", metadata.uid],
    ["Generation", `${metadata.generation}, of which the operator has seen ${status?.observedGeneration ?? "none"}`],
    ["Labels", pairsOf(metadata.labels)],
    ["Annotations", pairsOf(metadata.annotations)],
    ["Pod UID", status?.podUID],
    ["Image", container?.image],
    ["Kubelet", node?.status?.nodeInfo?.kubeletVersion],
    ["CPU level", node?.metadata?.labels?.["cpu.typevisor.io/level"]],
  ];
  return pairs.flatMap(([key, value]): [string, string][] =>
    value === undefined || value === "" ? [] : [[key, value]],
  );
}

/** A line for each; what kubectl apply keeps there is not for people. */
function pairsOf(pairs: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(pairs ?? {})
    .filter(([key]) => key !== "kubectl.kubernetes.io/last-applied-configuration")
    .map(([key, value]) => `${key}=${value}`)
    .join("\n");
}

function podText({ status }: Machine, pod: Pod | undefined): string {
  if (pod === undefined) return status?.podName ?? "none";
  const container = pod.status?.containerStatuses?.[0];
  const state = Object.keys(container?.state ?? {})[0];
  const deleting = pod.metadata?.deletionTimestamp === undefined ? "" : ", being deleted";
  return `${pod.metadata?.name} (${pod.status?.phase}${state === undefined ? "" : `, launcher ${state}`}${deleting})`;
}

function nodeText({ status }: Machine, node: Node | undefined): string {
  if (status?.node === undefined) return "none yet";
  if (node === undefined) return status.node;
  const ready = node.status?.conditions?.find(({ type }) => type === "Ready")?.status;
  const traits = [ready === "True" ? "Ready" : "not ready", ...(node.spec?.unschedulable ? ["cordoned"] : [])];
  return `${status.node} (${traits.join(", ")})`;
}

function conditionTable({ status }: Machine, nowMs: number): string {
  const conditions = status?.conditions ?? [];
  if (conditions.length === 0) return "none yet: no operator has looked at it\n";
  return table(
    ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"],
    conditions.map(({ type, status: state, reason, lastTransitionTime, message }) => [
      type,
      state,
      reason,
      ageText(lastTransitionTime, nowMs),
      message,
    ]),
  );
}

function diskTable({ spec, status }: Machine): string {
  if (spec.disks.length === 0) return "none\n";
  return table(
    ["NAME", "SOURCE", "CLAIM", "SIZE", "STATE"],
    spec.disks.map((disk) => {
      const seen = status?.volumes?.find(({ name }) => name === disk.name);
      const source = seen?.source ?? Object.keys(disk).find((key) => key !== "name" && key !== "readOnly") ?? "";
      const claim =
        seen?.claimName === undefined ? "-" : `${seen.claimName}${seen.volumeMode ? ` (${seen.volumeMode})` : ""}`;
      const state = [seen?.phase, seen?.message].filter((part) => part !== undefined).join(": ");
      return [disk.name, source, claim, seen?.size?.toString() ?? "-", state || "-"];
    }),
  );
}

function interfaceTable({ spec, status }: Machine): string {
  const wanted = spec.interfaces ?? [];
  const seen = status?.interfaces ?? [];
  const names = [...new Set([...wanted, ...seen].map(({ name }) => name))];
  if (names.length === 0) return "none\n";
  return table(
    ["NAME", "KIND", "MAC", "ADDRESSES"],
    names.map((name) => {
      const asked = wanted.find((each) => each.name === name);
      const found = seen.find((each) => each.name === name);
      const kind = Object.keys(asked ?? {}).find((key) => key !== "name" && key !== "macAddress") ?? "-";
      return [name, kind, found?.mac ?? "-", found?.ipAddresses?.join(", ") || "-"];
    }),
  );
}

function lastTermination({ status }: Machine, nowMs: number): string[] {
  const end = status?.lastTermination;
  if (end === undefined) return [];
  const lines: [string, string][] = [
    ["Reason", end.reason],
    ["Message", end.message],
    ...(end.exitCode === undefined ? [] : [["Exit code", String(end.exitCode)] as [string, string]]),
    ...(end.startedAt === undefined ? [] : [["Started", end.startedAt] as [string, string]]),
    ...(end.finishedAt === undefined
      ? []
      : [["Finished", `${end.finishedAt} (${ageText(end.finishedAt, nowMs)} ago)`] as [string, string]]),
  ];
  return [`\nLast termination:\n${fields(lines, "  ")}`];
}

function migrationUnderWay({ status }: Machine): string[] {
  const now = status?.migration;
  return now === undefined ? [] : [`\nMoving:\n${fields(course(now), "  ")}`];
}

function lastMigration({ status }: Machine, nowMs: number): string[] {
  const last = status?.lastMigration;
  if (last === undefined) return [];
  const { completedAt, downtimeMilliseconds, message } = last;
  const lines: [string, string][] = [
    ...course(last),
    ...(completedAt === undefined
      ? []
      : [["Ended", `${completedAt} (${ageText(completedAt, nowMs)} ago)`] as [string, string]]),
    ...(downtimeMilliseconds === undefined
      ? []
      : [["Stood still", `${Math.round(downtimeMilliseconds)} ms`] as [string, string]]),
    ...(message ? [["Message", message] as [string, string]] : []),
  ];
  return [`\nLast migration:\n${fields(lines, "  ")}`];
}

type Migration = Pick<NonNullable<NonNullable<Machine["status"]>["migration"]>, "name" | "phase" | "source" | "target">;

/** What moves, from where and to where. */
function course({ name, phase, source, target }: Migration): [string, string][] {
  return [
    ["Migration", `${name ?? ""} ${phase ?? ""}`.trim()],
    ["From", `${source?.node ?? "?"} (${source?.podName ?? "?"})`],
    ["To", `${target?.node ?? "not chosen yet"} (${target?.podName ?? "?"})`],
  ];
}

function eventTable(shown: readonly EventFacts[], count: number, nowMs: number): string {
  if (count === 0) return "none\n";
  const older = count - shown.length;
  const text = table(
    ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
    shown.map((event) => [
      ageText(lastTimeOf(event) || undefined, nowMs) + timesText(event),
      event.type ?? "",
      event.reason ?? "",
      event.involvedObject?.kind ?? "",
      (event.message ?? "").replaceAll(/\s+/g, " ").trim(),
    ]),
  );
  return older > 0 ? `${text}(${older} older ones are shown by -o wide)\n` : text;
}

function timesText(event: EventFacts): string {
  const count = event.series?.count ?? event.count ?? 1;
  return count > 1 ? ` (x${count})` : "";
}

function lastTimeOf(event: EventFacts): string {
  return event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.firstTimestamp ?? "";
}

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}
