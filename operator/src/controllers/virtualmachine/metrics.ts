import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { Store } from "../../runtime/store.ts";
import type { StoredVirtualMachine } from "./observe.ts";

/** What the VirtualMachine controller counts. */
export interface VirtualMachineMetrics {
  podCreated(vm: StoredVirtualMachine): void;
  statusWritten(vm: StoredVirtualMachine, next: VirtualMachineStatus): void;
  passFailed(outcome: "conflict" | "error"): void;
}

const START_BUCKETS = [0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300];

/** Registers `typevisor_virtualmachine*`. Start times are counted for a machine's first start only. */
export function virtualMachineMetrics(
  registry: Registry,
  store: () => Store<StoredVirtualMachine>,
  nowMs: () => number,
): VirtualMachineMetrics {
  const registers = [registry];
  new Gauge({
    name: "typevisor_virtualmachines",
    help: "VirtualMachines by phase.",
    labelNames: ["phase"],
    registers,
    collect() {
      const counts = new Map<string, number>();
      for (const vm of store().values()) {
        const phase = vm.status?.phase ?? "Pending";
        counts.set(phase, (counts.get(phase) ?? 0) + 1);
      }
      this.reset();
      for (const [phase, count] of counts) {
        this.set({ phase }, count);
      }
    },
  });
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
  const terminations = new Counter({
    name: "typevisor_virtualmachine_terminations_total",
    help: "Ends of machines by reason.",
    labelNames: ["reason"],
    registers,
  });
  const failures = new Counter({
    name: "typevisor_reconcile_failures_total",
    help: "Passes over a VirtualMachine that failed and are tried again.",
    labelNames: ["outcome"],
    registers,
  });
  const ageSeconds = (vm: StoredVirtualMachine, atMs: number) =>
    Math.max(0, (atMs - Date.parse(vm.metadata.creationTimestamp ?? "")) / 1000);
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
        toRunning.observe(ageSeconds(vm, Date.parse(next.startedAt)));
      }
    },
    passFailed: (outcome) => failures.inc({ outcome }),
  };
}
