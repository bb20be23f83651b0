import { describe, expect, it } from "@jest/globals";
import { dirtyLogFor, getDirtyLog } from "../kvm/dirty-log.ts";
import { setMemorySlot } from "../kvm/memory-slots.ts";
import { KvmSystem, openKvm } from "../kvm/system.ts";
import { saveInterruptControllers } from "../kvm/x86/irqchip.ts";
import { savedMsrs } from "../kvm/x86/saved-msrs.ts";
import { saveVcpuState, withoutTime } from "../kvm/x86/vcpu-state.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import { gpa } from "../memory/gpa.ts";
import { PauseAborted } from "./control-surface.ts";
import { TestBoard, type TestBoardOptions } from "./testing/test-board.ts";

const PORT = 0x200;
const MMIO = 0xc000_0000;
/** The test guest counts up here, 8 bytes a processor, when it spins. */
const SPIN_COUNTERS = 0x2000;

interface Access {
  readonly offset: number;
  readonly bytes: readonly number[];
}

/** Notes what is written, and answers reads with 1, 2, 3 ... in the lowest byte. */
class Recorder implements RangeHandler {
  readonly writes: Access[] = [];
  reads = 0;
  read(_: number, data: Uint8Array): void {
    data.fill(0);
    data[0] = ++this.reads;
  }
  write(offset: number, data: Uint8Array): void {
    this.writes.push({ offset, bytes: [...data] });
  }
}

async function running(commands: string, options: TestBoardOptions = {}): Promise<TestBoard & { recorder: Recorder }> {
  const machine = await TestBoard.make({ ...options, commands });
  const recorder = new Recorder();
  machine.ports.add(PORT, 8, recorder);
  machine.mmio.add(MMIO, 4096, recorder);
  machine.runner.run();
  return Object.assign(machine, { recorder });
}

function spinCount(machine: TestBoard, cpu: number): number {
  return machine.board.memory.readU32(gpa(SPIN_COUNTERS + cpu * 8));
}

/** What KVM holds of processors and interrupt controllers, in hexadecimal. */
function heldBy({ board }: TestBoard): Record<string, unknown> {
  using kvm = openKvm("/dev/kvm");
  const xsaveBytes = new KvmSystem(kvm.fd).capability("KVM_CAP_XSAVE2");
  const layout = { xsaveBytes, msrIndexes: savedMsrs(kvm.fd, board.vcpus[0]?.fd ?? -1) };
  const hex = (view: DataView) => Buffer.from(view.buffer).toString("hex");
  const processors = board.vcpus.map(({ fd }) => {
    const { msrs, ...structs } = withoutTime(saveVcpuState(fd, layout));
    const named = Object.entries(structs).map(([name, view]) => [name, hex(view)]);
    return { ...Object.fromEntries(named), msrs: msrs.map(({ index, value }) => `${index.toString(16)}=${value}`) };
  });
  return { processors, chips: saveInterruptControllers(board.vmFd).chips.map(hex) };
}

/** Waits until all `cpus` processors count. */
async function spinning(machine: TestBoard, cpus: number): Promise<void> {
  await machine.said("spinning");
  for (let cpu = 0; cpu < cpus; cpu++) {
    const before = spinCount(machine, cpu);
    await machine.until(() => spinCount(machine, cpu) !== before, `processor ${cpu} to count`);
  }
}

describe("a board", () => {
  it.each(["pvh", "linux64"] as const)("runs a kernel that is entered by %s", async (entry) => {
    using machine = await running("echo hello", { entry });
    await machine.said(`TYPEVISOR TESTGUEST READY ${entry}`);
    await machine.said("hello\r\n");
    expect(machine.events).toEqual([]);
  });

  it.each([1, 2, 4])("takes port accesses of %i bytes", async (width) => {
    using machine = await running(`out 0x202 ${width} 0x44332211; in 0x202 ${width}`);
    await machine.said("in 0x1\r\n");
    expect(machine.recorder.writes).toEqual([{ offset: 2, bytes: [0x11, 0x22, 0x33, 0x44].slice(0, width) }]);
    expect(machine.counter.snapshot()).toMatchObject({ "io:0x202": 2 });
  });

  it.each([
    [1, 7],
    [2, 5],
    [4, 3],
  ])("takes string instructions of %i bytes, element by element", async (width, count) => {
    using machine = await running(`outs 0x200 ${width} ${count}; ins 0x200 ${width} ${count}`);
    await machine.said(`ins 0x${((count * (count + 1)) / 2).toString(16)}\r\n`);
    const element = (value: number) => [value, 0, 0, 0].slice(0, width);
    expect(machine.recorder.writes).toEqual(
      Array.from({ length: count }, (_, i) => ({ offset: 0, bytes: element(i) })),
    );
  });

  it.each([1, 2, 4, 8])("takes memory-mapped accesses of %i bytes", async (width) => {
    using machine = await running(`write 0xc0000010 ${width} 0x8877665544332211; read 0xc0000010 ${width}`);
    await machine.said("read 0x1\r\n");
    const bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88].slice(0, width);
    expect(machine.recorder.writes).toEqual([{ offset: 0x10, bytes }]);
    expect(machine.counter.snapshot()).toMatchObject({ mmio: 2 });
  });

  it("answers with ones where nothing is", async () => {
    using machine = await running("in 0x300 2; read 0xd0000000 4");
    await machine.said("read 0xffffffff\r\n");
    expect(machine.output).toContain("in 0xffff\r\n");
  });

  it("reports a triple fault", async () => {
    using machine = await running("triplefault");
    await machine.until(() => machine.events.length > 0, "an event");
    expect(machine.events).toEqual(["triple fault"]);
  });

  it("rings a doorbell without leaving the guest", async () => {
    using machine = await TestBoard.make({ commands: "write 0xc0000040 2 7 50; out 0x204 4 1; echo done" });
    let rings = 0;
    let portRings = 0;
    using _mmio = machine.board.doorbells.assign("mmio", 0xc000_0040, 2, () => rings++);
    using _port = machine.board.doorbells.assign("pio", 0x204, 0, () => portRings++);
    machine.runner.run();
    await machine.said("done\r\n");
    await machine.until(() => rings > 0 && portRings > 0, "the doorbells");
    expect(portRings).toBe(1);
    expect(machine.counter.snapshot()).not.toHaveProperty("mmio");
  });

  it("does not ring for another width, nor once the doorbell is gone, nor twice at an address", async () => {
    using machine = await TestBoard.make({ commands: "write 0xc0000040 4 7; echo done" });
    const doorbell = machine.board.doorbells.assign("mmio", 0xc000_0040, 2, () => {});
    expect(() => machine.board.doorbells.assign("mmio", 0xc000_0040, 2, () => {})).toThrow("EEXIST");
    machine.runner.run();
    await machine.said("done\r\n");
    expect(machine.counter.snapshot()).toMatchObject({ mmio: 1 });
    doorbell[Symbol.dispose]();
    machine.board.doorbells.assign("mmio", 0xc000_0040, 2, () => {})[Symbol.dispose]();
  });

  it("delivers messages as interrupts, and drops those that are none", async () => {
    using machine = await TestBoard.make({ commands: "in 0x200 1; interrupts 0x50; interrupts 0x51" });
    const { msi } = machine.board;
    machine.ports.add(PORT, 1, {
      read: () => {
        msi.signalMsi(0xfee0_0000, 0, 0x51);
        msi.signalMsi(0xfee0_0000, 0xffff_ffff, 0xffff_ffff);
      },
      write: () => {},
    });
    machine.runner.run();
    await machine.said("interrupts 0x51: 1\r\n");
    expect(machine.output).toContain("interrupts 0x50: 0\r\n");
  });

  it("starts all processors", async () => {
    using machine = await running("cpus; cpuid 1", { cpuCount: 5 });
    await machine.said("cpus 5\r\n");
  });

  it("halts and resumes processors that never leave the guest by themselves", async () => {
    using machine = await running("cpus; spin", { cpuCount: 3 });
    await spinning(machine, 3);
    for (let round = 0; round < 20; round++) {
      await machine.runner.halt();
      const counts = [0, 1, 2].map((cpu) => spinCount(machine, cpu));
      await new Promise((resolve) => setTimeout(resolve, 2));
      expect([0, 1, 2].map((cpu) => spinCount(machine, cpu))).toEqual(counts);
      machine.runner.run();
    }
    await spinning(machine, 3);
  });

  it("finishes accesses to devices before it is halted, and repeats none", async () => {
    using machine = await running("write 0xc0000000 4 1 500; flood 500");
    const accesses = () => Object.values(machine.counter.snapshot()).reduce((sum, count) => sum + count, 0);
    const over = () => machine.output.includes("flooded");
    let halts = 0;
    while (!over()) {
      const before = accesses();
      machine.runner.run();
      // A guest that is halted again before it was scheduled would never come to its end.
      while (accesses() === before && !over()) await new Promise((resolve) => setImmediate(resolve));
      await machine.runner.halt();
      halts++;
    }
    expect(halts).toBeGreaterThan(3);
    expect(machine.recorder.writes.length).toBe(500);
    expect(machine.counter.snapshot()).toMatchObject({ "io:0x3fd": 500 });
  });

  it("counts the way of each exit and of its answer, whatever the halts between, and after the end", async () => {
    using machine = await running("write 0xc0000000 4 1 200; flood 200");
    const exits = () => Object.values(machine.counter.snapshot()).reduce((sum, count) => sum + count, 0);
    const trips = () => Array.from(machine.runner.roundTrips?.counts ?? []).reduce((sum, count) => sum + count, 0);
    await machine.said("flooded");
    for (let round = 0; round < 3; round++) {
      await machine.runner.halt();
      expect(trips()).toBe(exits());
      machine.runner.run();
    }
    await machine.runner.halt();
    expect(trips()).toBe(exits());
    expect(trips()).toBeGreaterThan(400);
    expect(machine.runner.roundTrips?.sum).toBeGreaterThan(0);
    machine.runner[Symbol.dispose]();
    expect(trips()).toBe(exits());
  });

  it("does not wait for what is halted or was never run", async () => {
    using machine = await TestBoard.make();
    await machine.runner.halt();
    machine.runner.run();
    await machine.said("READY");
    await machine.runner.halt();
    await machine.runner.halt();
  });

  it("goes on when it is resumed before it was halted", async () => {
    using machine = await running("spin");
    await machine.said("spinning");
    const halted = machine.runner.halt();
    machine.runner.run();
    await expect(halted).rejects.toThrow(PauseAborted);
    await spinning(machine, 1);
  });

  it("leaves the event loop its turns while all processors flood it with exits", async () => {
    using machine = await running("cpus; floodall", { cpuCount: 4 });
    await machine.said("all flooding");
    const floods = () => machine.counter.snapshot()["io:0x3ff"] ?? 0;
    let most = 0;
    while (floods() < 1000) {
      const before = floods();
      await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, floods() - before);
    }
    // A turn's share, and one more pass over the processors.
    expect(most).toBeLessThanOrEqual(16 + 4);
  });

  it("starts afresh after a reset: memory, processors and interrupt controllers", async () => {
    using machine = await running("cpus; write 0x300000 8 1; spin", { cpuCount: 3 });
    for (let reset = 0; reset < 3; reset++) {
      await spinning(machine, 3);
      await machine.runner.halt();
      await machine.board.reset();
      expect(machine.board.memory.readU32(gpa(0x30_0000))).toBe(0);
      await machine.load();
      machine.output = "";
      machine.runner.run();
    }
    await spinning(machine, 3);
    expect(machine.output).toContain("cpus 3\r\n");
    expect(machine.events).toEqual([]);
  });

  it("holds after a reset what it held at power-on, in all that KVM keeps but the time", async () => {
    const memoryTypes = "wrmsr 0x200 0xc0000000; wrmsr 0x201 0xf80000800; wrmsr 0x2ff 0xc00";
    using machine = await running(`${memoryTypes}; cpus; spin`, { cpuCount: 2 });
    await machine.runner.halt();
    using untouched = await TestBoard.make({ cpuCount: 2 });
    const expected = heldBy(untouched);
    machine.runner.run();
    await spinning(machine, 2);
    await machine.runner.halt();
    expect(heldBy(machine)).not.toEqual(expected);
    await machine.board.reset();
    await machine.load();
    expect(heldBy(machine)).toEqual(expected);
  });

  it("logs the pages that the guest writes", async () => {
    using machine = await TestBoard.make({ commands: "dirty 0x400000 3; echo done" });
    const { board } = machine;
    const [region] = board.memory.regions;
    if (!region) throw new Error("no memory");
    const hostAddress = board.memory.hostAddress(region.gpa, region.sizeBytes);
    setMemorySlot(board.vmFd, { ...region, slot: 0, hostAddress, logDirtyPages: true });
    machine.runner.run();
    await machine.said("done\r\n");
    const log = dirtyLogFor(region.sizeBytes / 4096);
    getDirtyLog(board.vmFd, 0, log);
    const isDirty = (page: number) => ((log[page >>> 5] ?? 0) >>> (page & 31)) & 1;
    expect([0x3ff, 0x400, 0x401, 0x402, 0x403].map(isDirty)).toEqual([0, 1, 1, 1, 0]);
  });
});
