import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { annotations, podNameOf } from "./names.ts";
import type { StoredVirtualMachine, World } from "./observe.ts";

/** What the VirtualMachine controller counts. */
export interface VirtualMachineMetrics {
  podCreated(vm: StoredVirtualMachine): void;
  statusWritten(vm: StoredVirtualMachine, next: VirtualMachineStatus): void;
}

const START_BUCKETS = [0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300];

/** Registers `typevisor_virtualmachine*`. Start times are counted for a machine's first start only. */
export function virtualMachineMetrics(
  registry: Registry,
  world: () => Pick<World, "virtualMachines" | "pods">,
  nowMs: () => number,
): VirtualMachineMetrics {
  const registers = [registry];
  stateGauges(registry, world, nowMs);
  const toPod = new Histogram({
    name: "typevisor_virtualmachine_creation_to_pod_seconds",
    help: "From the creation of a VirtualMachine to that of its first pod. Creation times are whole seconds.",
    buckets: START_BUCKETS,
    registers,
  });
  const toRunning = new Histogram({
    name: "typevisor_virtualmachine_creation_to_running_seconds",
    help: "From the creation of a VirtualMachine until its guest ran for the first time. Creation times are whole seconds.",
    buckets: START_BUCKETS,
    registers,
  });
  const podToRunning = new Histogram({
    name: "typevisor_virtualmachine_pod_to_running_seconds",
    help: "From the creation of a VirtualMachine's first pod until its guest ran: scheduling, images, volumes and the launcher's start. Creation times are whole seconds.",
    buckets: START_BUCKETS,
    registers,
  });
  const toReady = new Histogram({
    name: "typevisor_virtualmachine_creation_to_ready_seconds",
    help: "From the creation of a VirtualMachine until its status first said Ready. Creation times are whole seconds.",
    buckets: START_BUCKETS,
    registers,
  });
  const terminations = new Counter({
    name: "typevisor_virtualmachine_terminations_total",
    help: "Ends of machines by reason.",
    labelNames: ["reason"],
    registers,
  });
  return {
    podCreated: (vm) => {
      if (vm.status?.lastTermination === undefined && (vm.status?.restarts ?? 0) === 0) {
        toPod.observe(ageSeconds(vm, nowMs()));
      }
    },
    statusWritten: (vm, next) => {
      const end = next.lastTermination;
      if (end?.podUID !== undefined && end.podUID !== vm.status?.lastTermination?.podUID) {
        terminations.inc({ reason: end.reason });
      }
      const first = next.restarts === 0 && end === undefined && vm.status?.startedAt === undefined;
      if (first && next.startedAt !== undefined) {
        const runningAtMs = Date.parse(next.startedAt);
        toRunning.observe(ageSeconds(vm, runningAtMs));
        const pod = world().pods.get(`${vm.metadata.namespace}/${podNameOf(vm.metadata.name ?? "")}`);
        if (pod !== undefined && pod.metadata?.uid === next.podUID) podToRunning.observe(ageSeconds(pod, runningAtMs));
        if (isTrue(next, "Ready")) toReady.observe(ageSeconds(vm, nowMs()));
      }
    },
  };
}

/** What is so at each scrape. */
function stateGauges(
  registry: Registry,
  world: () => Pick<World, "virtualMachines" | "pods">,
  nowMs: () => number,
): void {
  const counting = (name: string, help: string, label: string, keysOf: () => Iterable<string>) =>
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [registry],
      collect() {
        this.reset();
        for (const key of keysOf()) this.inc({ [label]: key });
      },
    });
  const machines = () => [...world().virtualMachines.values()];
  counting("typevisor_virtualmachines", "VirtualMachines by phase.", "phase", () =>
    machines().map(({ status }) => status?.phase ?? "Pending"),
  );
  counting(
    "typevisor_virtualmachines_stalled",
    "VirtualMachines of which nothing more will become until someone changes something, by reason.",
    "reason",
    () => machines().flatMap(({ status }) => reasonWhereTrue(status, "Stalled")),
  );
  counting(
    "typevisor_virtualmachines_restart_required",
    "VirtualMachines that run with another spec (SpecChanged) or launcher (LauncherOutdated) than they would after a restart, by reason.",
    "reason",
    () => machines().flatMap(({ status }) => reasonWhereTrue(status, "RestartRequired")),
  );
  new Gauge({
    name: "typevisor_machine_certificates_overdue",
    help: "Machines whose certificate should have been renewed by now.",
    registers: [registry],
    collect() {
      const renewals = [...world().pods.values()].map(({ metadata }) =>
        Date.parse(metadata?.annotations?.[annotations.certificateRenewAt] ?? ""),
      );
      this.set(renewals.filter((renewAtMs) => renewAtMs < nowMs()).length);
    },
  });
}

function reasonWhereTrue(status: VirtualMachineStatus | undefined, type: string): string[] {
  const condition = status?.conditions?.find((each) => each.type === type);
  return condition?.status === "True" ? [condition.reason] : [];
}

function isTrue(status: VirtualMachineStatus, type: string): boolean {
  return reasonWhereTrue(status, type).length > 0;
}

function ageSeconds(object: { readonly metadata?: { readonly creationTimestamp?: string } }, atMs: number): number {
  return Math.max(0, (atMs - Date.parse(object.metadata?.creationTimestamp ?? "")) / 1000);
}
