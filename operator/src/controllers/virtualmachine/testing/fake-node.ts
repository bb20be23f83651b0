import { MULTUS_NETWORKS_ANNOTATION } from "../../../../../crds/src/interface.ts";
import type {
  AttachDiskRequest,
  AttachInterfaceRequest,
  LauncherStatus,
  MachineState,
} from "../../../../../launcher/api/control.ts";
import type { LinkState, MachineConfig } from "../../../../../launcher/api/machine-config.ts";
import type { HandOverDecision, MigrationRequest, MigrationStatus } from "../../../../../launcher/api/migration.ts";
import { LauncherError, type LauncherTarget } from "../../../launcher-client/launcher-client.ts";
import type { FakeApiServer } from "../../../runtime/testing/fake-api-server.ts";
import type { Pod, Secret } from "../../../runtime/wire.ts";
import type { MigrationCalls } from "../../virtualmachinemigration/migration-monitor.ts";
import { NETWORK_STATUS_ANNOTATION, podNetworks } from "../interface-status.ts";
import { type MultusNetwork, podInterfaceOf } from "../interfaces.ts";
import type { LauncherCalls } from "../launcher-monitor.ts";
import { ATTACHMENT_LABEL } from "../names.ts";
import type { StoredVirtualMachine } from "../observe.ts";
import { ClaimsOfGuests, claimsOfPod } from "./claims-of-guests.ts";
import { type Cut, FakeMove, type Mover } from "./fake-move.ts";
import { container, networkInterface } from "./fixtures.ts";

/** One launcher process on the node. */
interface Process extends Mover {
  readonly podUID: string;
  readonly vmUID: string;
  readonly ip: string;
  startedAtMs: number;
  state: MachineState;
  /** Of its pod, by disk. */
  readonly claims: ReadonlyMap<string, string>;
  /** Sizes of the disks on claims that it was started with, in bytes. */
  readonly startedDisks: ReadonlyMap<string, number>;
  /** Those that came while it ran. */
  readonly disks: Map<string, HotDisk>;
  /** Of its interfaces. */
  readonly links: Map<string, LinkState>;
  /** Ticks until the guest gives up interfaces that it was asked for. */
  readonly leavingLinks: Map<string, number>;
}

interface HotDisk {
  /** The attachment pod that it is from. */
  readonly podUid: string;
  /** Ticks until the guest gives it up; undefined while it is not asked to. */
  ticksLeft?: number;
}

/** Of every block device. */
const DEVICE_BYTES = 2 ** 30;

/** How long a guest takes to give up a disk or an interface. */
const EJECT_TICKS = 5;

/**
 * Scheduler, kubelet, garbage collector and launchers of a cluster of one node, one small step at each tick.
 * It records the sin that no operator may commit: two launchers of one machine at the same time.
 */
export class FakeNode implements LauncherCalls, MigrationCalls {
  readonly sins: string[] = [];
  /** Where the link of the next migration breaks. */
  cut: Cut | undefined;
  /** Memory is copied for as long as this is so. */
  isSlow = false;
  /** How often launchers were asked about migrations. */
  asked = 0;
  /** Migrations that launchers were told to begin so far. */
  moves = 0;
  /** Pods started so far. */
  starts = 0;
  /** How many pods the node refuses from now on. */
  refusals = 0;
  /** Guests of it never give up a disk. */
  isStubborn = false;
  /** Disks and interfaces that guests were given so far. */
  attached = 0;
  /** Whether Multus changes the networks of pods that run. */
  changesNetworks = true;
  /** Sizes that disks were made to grow to, by "podUID/disk". */
  readonly sizes = new Map<string, number>();
  readonly claims = new ClaimsOfGuests();
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

  /** One more node, for machines to move to. */
  addNode(name: string): void {
    const allocatable = { memory: "16Gi", "devices.typevisor.io/kvm": "100" };
    const conditions = [{ type: "Ready", status: "True" }];
    this.#server.write("nodes", { metadata: { name }, status: { allocatable, conditions } } as object);
  }

  /** The process of a pod is killed. */
  kill(podName: string): void {
    const uid = this.#server.read("pods", "shop", podName)?.metadata?.uid ?? "";
    const process = this.#processes.get(uid);
    if (process !== undefined) process.end ??= { reason: "killed", exitCode: 137 };
  }

  /** A pod goes with its node, process and all, without a word. */
  lose(podName: string): void {
    this.kill(podName);
    this.#server.erase("pods", "shop", podName);
  }

  /** Machines whose guest runs, each as often as it does. */
  get guests(): string[] {
    return this.running.flatMap((process) => (FakeMove.guestRunsIn(process) ? [process.vmUID] : []));
  }

  /** Launchers whose guest stands still until somebody says where it goes on. */
  get doubts(): number {
    return this.running.filter(({ move }) => move?.phase === "Undecided").length;
  }

  tick(): void {
    for (const process of this.running) {
      this.#giveUp(process.disks);
      this.#giveUpLinks(process);
    }
    for (const process of this.#processes.values()) process.move?.tick();
    for (const process of this.running)
      if ((process.state === "Running" || process.receives === "Running") && FakeMove.guestRunsIn(process))
        this.claims.ran(process.vmUID, process.claims);
    const guests = this.guests;
    if (new Set(guests).size < guests.length) this.sins.push("a guest runs in two places");
    for (const secret of this.#server.all("secrets")) {
      this.#collect("secrets", secret);
    }
    for (const pod of this.#server.all<Pod>("pods")) {
      this.#step(pod);
    }
  }

  async migration(target: LauncherTarget): Promise<MigrationStatus> {
    this.asked += 1;
    return FakeMove.statusOf(this.#find(target));
  }

  async startMigration(target: LauncherTarget, request: MigrationRequest): Promise<MigrationStatus> {
    const process = this.#find(target);
    const peer = this.running.find(({ ip }) => ip === request.address);
    if (peer !== undefined) this.#checkRecord(process, peer);
    FakeMove.begin(process, peer, { id: request.id ?? "", cut: this.cut, isSlow: () => this.isSlow });
    this.moves += 1;
    return FakeMove.statusOf(process);
  }

  /** From here on the guest may go on with other claims, and nobody may ever start it without knowing. */
  #checkRecord(from: Process, to: Process): void {
    const machines = this.#server.all<StoredVirtualMachine>("virtualmachines");
    const moved = machines.find(({ metadata }) => metadata.uid === from.vmUID)?.status?.movedDisks ?? [];
    for (const [disk, claimName] of to.claims)
      if (from.claims.get(disk) !== claimName && !moved.some((each) => each.nextClaimName === claimName))
        this.sins.push(`disk ${disk} begins to move to claim ${claimName}, and nothing says so`);
  }

  async cancelMigration(target: LauncherTarget): Promise<MigrationStatus> {
    const process = this.#find(target);
    FakeMove.cancel(process);
    return FakeMove.statusOf(process);
  }

  async decideMigration(target: LauncherTarget, winner: HandOverDecision): Promise<MigrationStatus> {
    const process = this.#find(target);
    FakeMove.decide(process, winner);
    return FakeMove.statusOf(process);
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

  async limitOverlay(target: LauncherTarget, _disk: string, _bytes: number): Promise<LauncherStatus> {
    return this.#statusOf(this.#find(target));
  }

  async attachDisk(target: LauncherTarget, { name, source }: AttachDiskRequest): Promise<LauncherStatus> {
    const process = this.#find(target);
    const podUid = source.kind === "attachment" ? source.podUid : "";
    const holder = this.#server.all<Pod>("pods").find((pod) => pod.metadata?.uid === podUid);
    if (holder?.status?.phase !== "Running" || holder.metadata?.deletionTimestamp !== undefined)
      throw new LauncherError(409, "NotReady", `disk ${name}: its holder does not offer it yet`);
    const known = process.disks.get(name);
    if (known !== undefined && known.podUid !== podUid) throw new LauncherError(409, "Conflict", "another disk");
    if (known === undefined) {
      this.attached += 1;
      process.disks.set(name, { podUid });
    }
    return this.#statusOf(process);
  }

  async detachDisk(target: LauncherTarget, name: string): Promise<LauncherStatus> {
    const process = this.#find(target);
    const disk = process.disks.get(name);
    if (disk !== undefined) disk.ticksLeft ??= EJECT_TICKS;
    return this.#statusOf(process);
  }

  #giveUp(disks: Map<string, HotDisk>): void {
    for (const [name, disk] of disks) {
      if (disk.ticksLeft === undefined || this.isStubborn) continue;
      disk.ticksLeft -= 1;
      if (disk.ticksLeft <= 0) disks.delete(name);
    }
  }

  async attachInterface(target: LauncherTarget, config: AttachInterfaceRequest): Promise<LauncherStatus> {
    const process = this.#find(target);
    const { name, attachment, link } = config;
    const asked = attachment.kind === "multus" ? attachment.podInterface : "";
    const pod = this.#server.all<Pod>("pods").find((each) => each.metadata?.uid === process.podUID);
    if (pod === undefined || !podNetworks(pod).some((network) => network.interface === asked))
      throw new LauncherError(409, "NotReady", `interface ${name}: the pod has no interface ${asked}`);
    if (!process.links.has(name)) this.attached += 1;
    process.links.set(name, link);
    return this.#statusOf(process);
  }

  async detachInterface(target: LauncherTarget, name: string): Promise<LauncherStatus> {
    const process = this.#find(target);
    if (process.links.has(name) && !process.leavingLinks.has(name)) process.leavingLinks.set(name, EJECT_TICKS);
    return this.#statusOf(process);
  }

  #giveUpLinks({ links, leavingLinks }: Process): void {
    for (const [name, ticksLeft] of leavingLinks) {
      if (this.isStubborn) continue;
      leavingLinks.set(name, ticksLeft - 1);
      if (ticksLeft > 1) continue;
      links.delete(name);
      leavingLinks.delete(name);
    }
  }

  /** Multus and its controller of dynamic networks: the pod gets what it asks for, and loses what it asks for no more. */
  #changeNetworks(pod: Pod, { links }: Process, edit: (change: (copy: Pod) => void) => void): void {
    const text = pod.metadata?.annotations?.[MULTUS_NETWORKS_ANNOTATION] ?? "[]";
    const asked = JSON.parse(text) as MultusNetwork[];
    const networks = asked.map((each) => ({ name: `${each.namespace}/${each.name}`, interface: each.interface }));
    for (const name of links.keys()) {
      const own = podInterfaceOf({ name });
      const isThere = (each: { interface?: string | undefined }) => each.interface === own;
      if (podNetworks(pod).some(isThere) && !networks.some(isThere))
        this.sins.push(`the pod loses interface ${name}, which its guest has`);
    }
    const told = JSON.stringify(networks);
    if ((pod.metadata?.annotations?.[NETWORK_STATUS_ANNOTATION] ?? "[]") === told) return;
    edit((copy) => {
      copy.metadata = {
        ...copy.metadata,
        annotations: { ...copy.metadata?.annotations, [NETWORK_STATUS_ANNOTATION]: told },
      };
    });
  }

  async setLink(target: LauncherTarget, interfaceName: string, state: LinkState): Promise<LauncherStatus> {
    const process = this.#find(target);
    process.links.set(interfaceName, state);
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
    const isFrozen = process.state === "Running" && process.move !== undefined && !FakeMove.guestRunsIn(process);
    const state = isFrozen ? "Paused" : process.state;
    return {
      apiVersion: 1,
      launcherVersion: "1",
      state,
      reason: isFrozen ? "Frozen" : state,
      ...(isFrozen ? { pause: { asked: false, storageFull: [] } } : {}),
      message: "",
      startedAt: process.state === "Starting" ? null : new Date(process.startedAtMs).toISOString(),
      reboots: 0,
      guestPanicked: false,
      cpus: 1,
      memoryBytes: 2 ** 30,
      milestones: {},
      exits: {},
      cannotMove: [],
      disks: [
        ...[...process.startedDisks].map(([name, sizeBytes]) => ({ name, sizeBytes, readOnly: false })),
        ...[...process.disks].map(([name, { ticksLeft }]) => ({
          name,
          sizeBytes: 2 ** 30,
          readOnly: false,
          state: ticksLeft === undefined ? ("Attached" as const) : ("Detaching" as const),
        })),
      ],
      interfaces: [...process.links].map(([name, link]) => {
        const state = process.leavingLinks.has(name) ? "Detaching" : "Attached";
        return networkInterface(name, { link, state });
      }),
    };
  }

  #step(pod: Pod): void {
    const { namespace = "", name = "", uid = "", deletionTimestamp } = pod.metadata ?? {};
    const edit = (change: (copy: Pod) => void) => this.#server.edit<Pod>("pods", namespace, name, change);
    if (pod.metadata?.labels?.[ATTACHMENT_LABEL] !== undefined) {
      this.#stepHolder(pod, edit);
      this.#collect("pods", pod);
      return;
    }
    const process = this.#processes.get(uid);
    const finished = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    if (process !== undefined && !finished) {
      if (deletionTimestamp !== undefined && process.end === undefined) {
        process.end = { reason: "Stopped", exitCode: 0 };
      } else if (process.end !== undefined) {
        this.#finish(process, process.end, edit);
      } else if (process.state === "Starting" && FakeMove.guestRunsIn(process)) {
        process.state = "Running";
      } else if (this.changesNetworks) {
        this.#changeNetworks(pod, process, edit);
      }
    } else if (deletionTimestamp !== undefined) {
      this.#server.erase("pods", namespace, name);
    } else if (!finished) {
      this.#advance(pod, edit);
    }
    this.#collect("pods", pod);
  }

  /** It outlasts the launcher's use of its disk, as `launcher hold` does. */
  #stepHolder(pod: Pod, edit: (change: (copy: Pod) => void) => void): void {
    const { namespace = "", name = "", uid = "", deletionTimestamp } = pod.metadata ?? {};
    const isUsed = this.running.some(({ disks }) => [...disks.values()].some(({ podUid }) => podUid === uid));
    if (deletionTimestamp !== undefined) {
      if (!isUsed) this.#server.erase("pods", namespace, name);
    } else if (pod.spec?.nodeName === undefined) {
      edit((copy) => {
        copy.spec = { ...copy.spec, containers: copy.spec?.containers ?? [], nodeName: "node-1" };
        copy.status = { phase: "Pending" };
      });
    } else if (pod.status?.phase === "Pending") {
      edit((copy) => {
        copy.status = { ...copy.status, phase: "Running" };
      });
    }
  }

  #advance(pod: Pod, edit: (change: (copy: Pod) => void) => void): void {
    if (pod.spec?.nodeName === undefined) {
      edit((copy) => {
        copy.spec = { ...copy.spec, containers: copy.spec?.containers ?? [], nodeName: placeOf(pod) };
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
    const receives = pod.spec?.containers[0]?.args?.includes("--receive") === true;
    if (!receives && this.running.some((other) => other.vmUID === vmUID)) {
      this.sins.push(`two launchers for machine ${vmUID}`);
    }
    const holders = this.#server.all<Pod>("pods").filter((each) => each.metadata?.labels?.[ATTACHMENT_LABEL]);
    if (holders.some((each) => each.metadata?.ownerReferences?.[0]?.uid === vmUID)) {
      this.sins.push(`a launcher was started while attachment pods hold the volumes of machine ${vmUID}`);
    }
    this.sins.push(...this.claims.sinsOfStart(vmUID, pod));
    this.starts += 1;
    const config = this.#machineConfig(pod, secret);
    const links = new Map(config.interfaces?.map(({ name, link }) => [name, link]));
    const startedDisks = new Map(
      config.disks?.flatMap(({ name, source }) => {
        if (source.kind === "raw") return [[name, DEVICE_BYTES]];
        return source.kind === "directory" ? [[name, source.sizeBytes]] : [];
      }),
    );
    const ip = `10.0.${Math.floor(this.starts / 250)}.${(this.starts % 250) + 1}`;
    const podUID = pod.metadata?.uid ?? "";
    this.#processes.set(podUID, {
      podUID,
      vmUID,
      ip,
      startedAtMs: this.#nowMs(),
      state: "Starting",
      claims: claimsOfPod(pod),
      startedDisks,
      disks: new Map(),
      links,
      leavingLinks: new Map(),
      ...(receives ? { receives: "Listening" } : {}),
    });
    edit((copy) => {
      const running = { running: { startedAt: new Date(this.#nowMs()).toISOString() } };
      copy.status = { phase: "Running", podIP: ip, containerStatuses: [container(running)] };
    });
  }

  #machineConfig(pod: Pod, secretName: string): MachineConfig {
    const secret = this.#server.read<Secret>("secrets", pod.metadata?.namespace ?? "", secretName);
    return JSON.parse(Buffer.from(secret?.data?.["machine.json"] ?? "e30=", "base64").toString());
  }

  #finish(process: Process, end: NonNullable<Process["end"]>, edit: (change: (copy: Pod) => void) => void): void {
    const terminated = {
      exitCode: end.exitCode,
      ...(end.reason === "killed" ? {} : { message: JSON.stringify({ version: 1, message: end.reason, ...end }) }),
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

/** The first node that a pod does not refuse: of required affinity, what a migration asks for. */
function placeOf(pod: Pod): string {
  const terms =
    pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  const fields = terms.flatMap(({ matchFields = [] }) => matchFields);
  const fits = (name: string) =>
    fields.every(({ operator, values = [] }) => (operator === "In") === values.includes(name));
  return ["node-1", "node-2"].find(fits) ?? "node-1";
}
