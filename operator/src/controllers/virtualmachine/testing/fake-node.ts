import type { LauncherStatus, MachineState } from "../../../../../launcher/api/control.ts";
import { LauncherError, type LauncherTarget } from "../../../launcher-client/launcher-client.ts";
import type { FakeApiServer } from "../../../runtime/testing/fake-api-server.ts";
import type { Pod } from "../../../runtime/wire.ts";
import type { LauncherCalls } from "../launcher-monitor.ts";
import { container } from "./fixtures.ts";

/** One launcher process on the node. */
interface Process {
  readonly podUID: string;
  readonly vmUID: string;
  readonly ip: string;
  readonly startedAtMs: number;
  state: MachineState;
  /** Its last word, once it has ended. */
  end?: { readonly reason: string; readonly exitCode: number };
}

/**
 * Scheduler, kubelet, garbage collector and launchers of a cluster of one node, one small step at each tick.
 * It records the sin that no operator may commit: two launchers of one machine at the same time.
 */
export class FakeNode implements LauncherCalls {
  readonly sins: string[] = [];
  /** Pods started so far. */
  starts = 0;
  /** How many pods the node refuses from now on. */
  refusals = 0;
  /** Sizes that disks were made to grow to, by "podUID/disk". */
  readonly sizes = new Map<string, number>();
  readonly #server: FakeApiServer;
  readonly #processes = new Map<string, Process>();
  readonly #nowMs: () => number;

  constructor(server: FakeApiServer, nowMs: () => number) {
    this.#server = server;
    this.#nowMs = nowMs;
    const allocatable = { memory: "16Gi", "devices.typevisor.io/kvm": "100" };
    const conditions = [{ type: "Ready", status: "True" }];
    server.write("nodes", { metadata: { name: "node-1" }, status: { allocatable, conditions } } as object);
  }

  get running(): Process[] {
    return [...this.#processes.values()].filter((process) => process.end === undefined);
  }

  /** The guest of the only running machine ends. */
  end(reason: string, exitCode: number): void {
    for (const process of this.running) {
      process.end = { reason, exitCode };
    }
  }

  tick(): void {
    for (const secret of this.#server.all("secrets")) {
      this.#collect("secrets", secret);
    }
    for (const pod of this.#server.all<Pod>("pods")) {
      this.#step(pod);
    }
  }

  status(target: LauncherTarget): Promise<LauncherStatus> {
    return this.waitFor(target, ["Starting", "Running", "Paused", "Stopping", "Ended"]);
  }

  async waitFor(target: LauncherTarget, states: readonly MachineState[]): Promise<LauncherStatus> {
    const process = this.#find(target);
    if (!states.includes(process.state)) {
      throw new LauncherError(408, "Timeout", "not yet");
    }
    return this.#statusOf(process);
  }

  async pause(target: LauncherTarget): Promise<LauncherStatus> {
    const process = this.#find(target);
    process.state = "Paused";
    return this.#statusOf(process);
  }

  async resume(target: LauncherTarget): Promise<LauncherStatus> {
    const process = this.#find(target);
    process.state = "Running";
    return this.#statusOf(process);
  }

  async resizeDisk(target: LauncherTarget, disk: string, sizeBytes: number): Promise<LauncherStatus> {
    const process = this.#find(target);
    this.sizes.set(`${process.podUID}/${disk}`, sizeBytes);
    return this.#statusOf(process);
  }

  #find(target: LauncherTarget): Process {
    const process = this.running.find((candidate) => candidate.ip === target.ip);
    if (process === undefined || process.vmUID !== target.uid) {
      throw new LauncherError(0, "Unreachable", "connect ECONNREFUSED");
    }
    return process;
  }

  #statusOf(process: Process): LauncherStatus {
    return {
      apiVersion: 1,
      launcherVersion: "1",
      state: process.state,
      reason: process.state,
      message: "",
      startedAt: process.state === "Starting" ? null : new Date(process.startedAtMs).toISOString(),
      reboots: 0,
      guestPanicked: false,
      cpus: 1,
      memoryBytes: 2 ** 30,
      milestones: {},
      exits: {},
    };
  }

  #step(pod: Pod): void {
    const { namespace = "", name = "", uid = "", deletionTimestamp } = pod.metadata ?? {};
    const edit = (change: (copy: Pod) => void) => this.#server.edit<Pod>("pods", namespace, name, change);
    const process = this.#processes.get(uid);
    const finished = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    if (process !== undefined && !finished) {
      if (deletionTimestamp !== undefined && process.end === undefined) {
        process.end = { reason: "Stopped", exitCode: 0 };
      } else if (process.end !== undefined) {
        this.#finish(process, process.end, edit);
      } else if (process.state === "Starting") {
        process.state = "Running";
      }
    } else if (deletionTimestamp !== undefined) {
      this.#server.erase("pods", namespace, name);
    } else if (!finished) {
      this.#advance(pod, edit);
    }
    this.#collect("pods", pod);
  }

  #advance(pod: Pod, edit: (change: (copy: Pod) => void) => void): void {
    if (pod.spec?.nodeName === undefined) {
      edit((copy) => {
        copy.spec = { ...copy.spec, containers: copy.spec?.containers ?? [], nodeName: "node-1" };
        copy.status = { ...copy.status, phase: "Pending", startTime: new Date(this.#nowMs()).toISOString() };
      });
    } else if (this.refusals > 0) {
      this.refusals -= 1;
      edit((copy) => {
        copy.status = { ...copy.status, phase: "Failed", reason: "UnexpectedAdmissionError", message: "no device" };
      });
    } else {
      this.#start(pod, edit);
    }
  }

  #start(pod: Pod, edit: (change: (copy: Pod) => void) => void): void {
    const vmUID = pod.metadata?.ownerReferences?.[0]?.uid ?? "";
    const secret = pod.spec?.volumes?.find((volume) => volume.name === "machine")?.secret?.secretName ?? "";
    if (this.#server.read("secrets", pod.metadata?.namespace ?? "", secret) === undefined) {
      this.sins.push(`a pod was made before its Secret ${secret}`);
    }
    if (this.running.some((other) => other.vmUID === vmUID)) {
      this.sins.push(`two launchers for machine ${vmUID}`);
    }
    this.starts += 1;
    const ip = `10.0.${Math.floor(this.starts / 250)}.${(this.starts % 250) + 1}`;
    const podUID = pod.metadata?.uid ?? "";
    this.#processes.set(podUID, { podUID, vmUID, ip, startedAtMs: this.#nowMs(), state: "Starting" });
    edit((copy) => {
      const running = { running: { startedAt: new Date(this.#nowMs()).toISOString() } };
      copy.status = { phase: "Running", podIP: ip, containerStatuses: [container(running)] };
    });
  }

  #finish(process: Process, end: NonNullable<Process["end"]>, edit: (change: (copy: Pod) => void) => void): void {
    const terminated = {
      exitCode: end.exitCode,
      message: JSON.stringify({ version: 1, reason: end.reason, message: end.reason }),
      startedAt: new Date(process.startedAtMs).toISOString(),
      finishedAt: new Date(this.#nowMs()).toISOString(),
    };
    edit((copy) => {
      const phase = end.exitCode === 0 ? "Succeeded" : "Failed";
      copy.status = { ...copy.status, phase, containerStatuses: [container({ terminated })] };
    });
  }

  /** Deletes what belongs to a VirtualMachine that is gone. */
  #collect(plural: string, object: { metadata?: Pod["metadata"] }): void {
    const owner = object.metadata?.ownerReferences?.[0];
    const machines = this.#server.all("virtualmachines");
    if (owner === undefined || machines.some((vm) => vm.metadata?.uid === owner.uid)) {
      return;
    }
    const { namespace = "", name = "", uid = "" } = object.metadata ?? {};
    if (this.#server.read(plural, namespace, name)?.metadata?.uid !== uid) {
      return;
    }
    if (plural === "pods" && this.#processes.get(uid)?.end === undefined && this.#processes.has(uid)) {
      this.#server.edit<Pod>(plural, namespace, name, (pod) => {
        pod.metadata = { ...pod.metadata, deletionTimestamp: new Date(this.#nowMs()).toISOString() };
      });
    } else {
      this.#server.erase(plural, namespace, name);
    }
  }
}
