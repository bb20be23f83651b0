import { formatCpuFeatures } from "../../api/cpu-features.ts";
import type { EntryState } from "../boot/x86/entry.ts";
import { KVM_IDENTITY_MAP, KVM_TSS, ramRegions } from "../boot/x86/layout.ts";
import { refusing, StateRefused } from "../codec/state-refused.ts";
import { CoalescedPort, type CoalescedWrites } from "../kvm/coalesced-port.ts";
import { KvmDoorbells } from "../kvm/doorbells.ts";
import type { Doorbells, IrqLine, MsiSink, MsiWires } from "../kvm/interrupts.ts";
import { KvmIrqLine } from "../kvm/irq-line.ts";
import { kvmIoctl } from "../kvm/kvm-ioctl.ts";
import { KvmUnavailable } from "../kvm/kvm-unavailable.ts";
import { setMemorySlot } from "../kvm/memory-slots.ts";
import { KvmMsiSink } from "../kvm/msi.ts";
import { KvmMsiWires } from "../kvm/msi-wires.ts";
import { newStruct } from "../kvm/struct-view.ts";
import { KvmSystem } from "../kvm/system.ts";
import { Vcpu } from "../kvm/vcpu.ts";
import { getClock, notePause, setClock } from "../kvm/x86/clock.ts";
import { featuresOf, missingFeatures } from "../kvm/x86/cpu-compatibility.ts";
import {
  type CpuidEntry,
  decodeCpuid,
  encodeCpuid,
  getCpuid,
  rawCpuid,
  setCpuid,
  supportedCpuid,
} from "../kvm/x86/cpuid.ts";
import { guestCpuid } from "../kvm/x86/guest-cpuid.ts";
import {
  createInterruptControllers,
  type InterruptControllerState,
  restoreInterruptControllers,
  saveInterruptControllers,
} from "../kvm/x86/irqchip.ts";
import { connectLocalPins } from "../kvm/x86/lapic.ts";
import { bootMsrs, setMsrs } from "../kvm/x86/msrs.ts";
import { savedMsrs } from "../kvm/x86/saved-msrs.ts";
import { restoreVcpu, saveVcpu } from "../kvm/x86/saved-vcpu.ts";
import {
  restoreVcpuState,
  saveVcpuState,
  type VcpuState,
  type VcpuStateLayout,
  withoutTime,
} from "../kvm/x86/vcpu-state.ts";
import { setKvmPages } from "../kvm/x86/vm-addresses.ts";
import { DirtyBitmap } from "../memory/dirty-bitmap.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { SysError } from "../sys/errors.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { punchHoleAsync } from "../sys/file-io.ts";
import { createMemfd, Mapping } from "../sys/mapping.ts";
import type { BoardState } from "./board-state.ts";
import { setEntryRegisters } from "./x86/entry-registers.ts";

export interface BoardConfig {
  /** 1 to 64. */
  readonly cpuCount: number;
  /** Whole pages. */
  readonly memorySizeBytes: number;
}

const MAX_CPUS = 64;

/** What KVM is of a machine: memory, interrupt controllers and processors. Devices and the kernel are put on it. */
export class Board implements Disposable {
  readonly memory: GuestMemory;
  readonly vcpus: readonly Vcpu[];
  readonly msi: MsiSink;
  /** Undefined where KVM has no irqfds (before Linux 2.6.32). */
  readonly msiWires: MsiWires | undefined;
  readonly doorbells: Doorbells;
  readonly vmFd: number;
  readonly #memfd: OwnedFd;
  readonly #resources: DisposableStack;
  /** 0: the host has none. */
  readonly #coalescedPortsPage: number;
  readonly #controllersAtPowerOn: InterruptControllerState;
  readonly #vcpusAtPowerOn: readonly VcpuState[];
  readonly #layout: VcpuStateLayout;
  /** What CPUID answers on each processor, as bytes: asked for by a migration alone. */
  #cpuids: readonly DataView[];
  /** Of `#cpuids`, once they were asked for. */
  #features: string | undefined;

  /**
   * `kvm` is /dev/kvm, and the board's from now on, also when this throws. `milestone` is told of each step.
   * Throws KvmUnavailable with the way out.
   */
  constructor(kvm: OwnedFd, config: BoardConfig, milestone: (step: string) => void) {
    using resources = new DisposableStack();
    resources.use(kvm);
    const system = new KvmSystem(kvm.fd);
    checkCpuCount(system, config.cpuCount);
    const vm = resources.use(system.createVm());
    this.vmFd = vm.fd;
    setKvmPages(vm.fd, KVM_TSS, KVM_IDENTITY_MAP);
    milestone("kvm");
    [this.#memfd, this.memory] = makeMemory(vm.fd, config.memorySizeBytes, resources);
    milestone("memory");
    // After the memory: changing slots waits for all that run, and there is least to wait for now.
    createInterruptControllers(vm.fd);
    const supported = supportedCpuid(kvm.fd);
    const hasDeadlineTimer = system.capability("KVM_CAP_TSC_DEADLINE_TIMER") > 0;
    const cpuids = guestProcessors(supported, config.cpuCount, hasDeadlineTimer);
    this.vcpus = makeVcpus(system, vm.fd, cpuids, resources);
    this.#cpuids = this.vcpus.map(({ fd }) => rawCpuid(fd));
    this.msi = new KvmMsiSink(vm.fd);
    const hasWires = (["KVM_CAP_IRQFD", "KVM_CAP_IRQ_ROUTING"] as const).every((name) => system.capability(name) > 0);
    this.msiWires = hasWires ? new KvmMsiWires(vm.fd) : undefined;
    this.doorbells = new KvmDoorbells(vm.fd);
    this.#coalescedPortsPage = system.coalescedPortsPage();
    this.#controllersAtPowerOn = saveInterruptControllers(vm.fd);
    const [first] = this.vcpus;
    this.#layout = {
      xsaveBytes: system.capability("KVM_CAP_XSAVE2"),
      msrIndexes: first ? savedMsrs(kvm.fd, first.fd) : [],
    };
    this.#vcpusAtPowerOn = this.vcpus.map(({ fd }) => withoutTime(saveVcpuState(fd, this.#layout)));
    milestone("processors");
    this.#resources = resources.move();
  }

  /** What copying guest RAM takes: the file that it is, and where the dirty log of its slots is. */
  get memoryForMoving(): { readonly fd: number; readonly vmFd: number; readonly memory: GuestMemory } {
    return { fd: this.#memfd.fd, vmFd: this.vmFd, memory: this.memory };
  }

  /** The wired line of a pin of the IOAPIC (and of the PIC below 16). One object a line. */
  irqLine(gsi: number): IrqLine {
    return new KvmIrqLine(this.vmFd, gsi);
  }

  /** For one port of the machine; null where the host's KVM cannot (before Linux 4.20). Not used after `dispose`. */
  coalescedWrites(port: number): CoalescedWrites | null {
    const [first] = this.vcpus;
    if (!first || this.#coalescedPortsPage === 0) return null;
    return new CoalescedPort(this.vmFd, first.run.page(this.#coalescedPortsPage), port);
  }

  /** Where the first processor starts; the others wait for it to wake them. No vCPU is in the guest. */
  setEntry(entry: EntryState): void {
    const [first] = this.vcpus;
    if (first) setEntryRegisters(first.fd, entry);
  }

  /** Before the vCPUs run again after a pause. */
  notePause(): void {
    for (const { fd } of this.vcpus) notePause(fd);
  }

  /**
   * As after power-on: empty memory, all processors and interrupt controllers as they were made. All vCPUs are halted,
   * and the devices were reset before: they have let go of memory and interrupt lines.
   */
  async reset(): Promise<void> {
    await this.#clearMemory();
    restoreInterruptControllers(this.vmFd, this.#controllersAtPowerOn);
    this.vcpus.forEach((vcpu, i) => {
      const state = this.#vcpusAtPowerOn[i];
      // Asking makes KVM take INIT and start-up messages that are on their way, so that none comes after the reset.
      kvmIoctl(vcpu.fd, "KVM_GET_MP_STATE", newStruct("kvm_mp_state"));
      if (state) restoreVcpuState(vcpu.fd, state);
    });
  }

  /** What KVM holds, memory apart. All vCPUs are halted. */
  save(): BoardState {
    const vcpus = this.vcpus.map(({ fd }) => saveVcpu(fd, this.#layout));
    return { vcpus, controllers: saveInterruptControllers(this.vmFd), clockNs: getClock(this.vmFd) };
  }

  /** What CPUID answers on each processor, as KVM took it; asking a vCPU that runs would wait for it. */
  processors(): BoardState["vcpus"][number]["cpuid"][] {
    return this.#cpuids.map((view) => decodeCpuid(view));
  }

  /** What the guest may have based its code on; the format of launcher/api/cpu-features.ts. */
  get features(): string {
    this.#features ??= formatCpuFeatures(featuresOf(this.processors()[0] ?? []));
    return this.#features;
  }

  /** Why processors that were saved elsewhere cannot go on here; throws StateRefused then. No vCPU has run. */
  checkProcessors(saved: readonly Pick<BoardState["vcpus"][number], "cpuid">[]): void {
    if (saved.length !== this.vcpus.length)
      throw new StateRefused("processors", `${saved.length} were saved, and this machine has ${this.vcpus.length}`);
    this.vcpus.forEach(({ fd, index }, i) => {
      // Some KVMs answer more than they were told to offer, so that the vCPU itself is asked.
      const missing = missingFeatures(saved[i]?.cpuid ?? [], getCpuid(fd));
      if (missing.length > 0)
        throw new StateRefused(
          `processor ${index}`,
          `the guest uses what this host does not have: ${missing.join(", ")}`,
        );
    });
  }

  /**
   * Goes on where another board was saved, `elapsedNs` later by the guest's clocks. Memory holds what that one's did, no
   * vCPU has run, and the devices are restored after, which raise their interrupt lines. Throws StateRefused.
   */
  restore(state: BoardState, elapsedNs: bigint): void {
    this.checkProcessors(state.vcpus);
    refusing("interrupt controllers", () => restoreInterruptControllers(this.vmFd, state.controllers));
    const { xsaveBytes } = this.#layout;
    this.vcpus.forEach(({ fd, index }, i) => {
      const part = `processor ${index}`;
      const saved = state.vcpus[i];
      if (saved) refusing(part, () => restoreVcpu(fd, saved, { part, xsaveBytes, elapsedNs }));
    });
    this.#cpuids = state.vcpus.map(({ cpuid }) => encodeCpuid(cpuid));
    this.#features = undefined;
    refusing("clock", () => setClock(this.vmFd, state.clockNs + elapsedNs));
  }

  /** Gives the memory back to the host, which makes it zeroes; on the pool, since it takes 0.1 s a GiB. */
  async #clearMemory(): Promise<void> {
    const { memory } = this;
    const result = await new Promise<number>((resolve) => punchHoleAsync(this.#memfd.fd, 0, memory.sizeBytes, resolve));
    if (result < 0) throw new SysError("fallocate", -result, "guest memory");
    memory.dirty.mark(0, memory.sizeBytes);
  }

  /** Nobody runs a vCPU or uses guest memory any more. */
  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

function checkCpuCount(system: KvmSystem, cpuCount: number): void {
  if (!(cpuCount >= 1 && cpuCount <= MAX_CPUS)) throw new RangeError(`a machine has 1 to ${MAX_CPUS} processors`);
  const most = system.capability("KVM_CAP_MAX_VCPUS");
  if (cpuCount > most) throw new KvmUnavailable(`KVM on this host allows ${most} processors, not ${cpuCount}`);
}

/** One mapping for all of the guest's RAM, and a slot for each run of it. */
function makeMemory(vmFd: number, sizeBytes: number, resources: DisposableStack): [OwnedFd, GuestMemory] {
  try {
    const memfd = resources.use(createMemfd("guest-memory", sizeBytes));
    const mapping = resources.use(Mapping.shared(memfd.fd, sizeBytes));
    mapping.excludeFromCoreDump();
    const memory = new GuestMemory(mapping, ramRegions(sizeBytes), new DirtyBitmap(sizeBytes));
    memory.regions.forEach((region, slot) => {
      setMemorySlot(vmFd, { ...region, slot, hostAddress: mapping.hostAddress + region.offsetBytes });
    });
    return [memfd, memory];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new KvmUnavailable(`no memory for the guest: ${reason}. Lower memory.sizeBytes`, { cause: error });
  }
}

function makeVcpus(
  system: KvmSystem,
  vmFd: number,
  cpuids: readonly (readonly CpuidEntry[])[],
  resources: DisposableStack,
): Vcpu[] {
  const runPageBytes = system.runPageBytes();
  return cpuids.map((cpuid, apicId) => {
    const vcpu = resources.use(new Vcpu(vmFd, apicId, runPageBytes));
    setCpuid(vcpu.fd, cpuid);
    setMsrs(vcpu.fd, bootMsrs);
    connectLocalPins(vcpu.fd);
    return vcpu;
  });
}

/** What CPUID answers on each processor of a machine of this host. */
function guestProcessors(
  supported: readonly CpuidEntry[],
  cpuCount: number,
  tscDeadlineTimer: boolean,
): CpuidEntry[][] {
  return Array.from({ length: cpuCount }, (_, apicId) => guestCpuid(supported, { cpuCount, apicId, tscDeadlineTimer }));
}
