import { describe, expect, it } from "@jest/globals";
import { formatCpuFeatures } from "../../api/cpu-features.ts";
import { decode, encode } from "../codec/codec.ts";
import { StateRefused } from "../codec/state-refused.ts";
import { openKvm } from "../kvm/system.ts";
import { hostFeatures } from "../kvm/x86/host-features.ts";
import { getMsrs, type Msr, setMsrs } from "../kvm/x86/msrs.ts";
import { gpa } from "../memory/gpa.ts";
import { type BoardState, boardStateCodec } from "./board-state.ts";
import { TestBoard, type TestBoardOptions } from "./testing/test-board.ts";

/** Of the test guest: counters of spinning processors, and of the timer's interrupts. */
const SPIN_COUNTERS = 0x2000;
const TIMER_TICKS = 0x3000;

/** A board on which another one, halted, goes on: its memory copied, its state through bytes. */
async function continued(from: TestBoard, options: TestBoardOptions, change?: (s: BoardState) => BoardState) {
  const saved = decode(boardStateCodec, encode(boardStateCodec, from.board.save()), 1);
  using cleanup = new DisposableStack();
  const to = cleanup.use(await TestBoard.make(options));
  for (const { gpa, sizeBytes } of from.board.memory.regions)
    to.board.memory.write(gpa, from.board.memory.view(gpa, sizeBytes));
  to.board.restore(change?.(saved) ?? saved, 0n);
  to.output = from.output;
  cleanup.move();
  return to;
}

const word = ({ board }: TestBoard, address: number) => board.memory.readU32(gpa(address));
const spinCount = (board: TestBoard, cpu: number) => word(board, SPIN_COUNTERS + 8 * cpu);

async function spinning(board: TestBoard, cpus: number): Promise<void> {
  for (let cpu = 0; cpu < cpus; cpu++) {
    const before = spinCount(board, cpu);
    await board.until(() => spinCount(board, cpu) !== before, `processor ${cpu} to count`);
  }
}

describe("a board that was saved", () => {
  it("goes on on another one, again and again, with all its processors", async () => {
    let board = await TestBoard.make({ cpuCount: 3, commands: "cpus; spin" });
    board.runner.run();
    await board.said("spinning");
    await spinning(board, 3);
    for (let round = 0; round < 3; round++) {
      await board.runner.halt();
      const counts = [0, 1, 2].map((cpu) => spinCount(board, cpu));
      const next = await continued(board, { cpuCount: 3 });
      expect([0, 1, 2].map((cpu) => spinCount(next, cpu))).toEqual(counts);
      board[Symbol.dispose]();
      board = next;
      board.runner.run();
      await spinning(board, 3);
      expect(board.events).toEqual([]);
    }
    board[Symbol.dispose]();
  });

  it("says of its guest what the host says that it gives, and of one that it took over what that one has", async () => {
    using kvm = openKvm("/dev/kvm");
    using board = await TestBoard.make({ cpuCount: 2, commands: "cpus; spin" });
    expect(board.board.features).toBe(formatCpuFeatures(hostFeatures(kvm.fd)));
    using weaker = await continued(board, { cpuCount: 2 }, (saved) => ({
      ...saved,
      vcpus: saved.vcpus.map((vcpu) => ({ ...vcpu, cpuid: vcpu.cpuid.filter(({ leaf }) => leaf !== 7) })),
    }));
    expect(weaker.board.features).not.toMatch(/ 7\//);
    expect(board.board.features).toMatch(/ 1\/0\/edx:/);
  });

  it("saves the same again, before it runs, but for the time", async () => {
    using board = await TestBoard.make({ cpuCount: 2, commands: "cpus; spin" });
    board.runner.run();
    await board.said("spinning");
    await board.runner.halt();
    const timeless = ({ vcpus, controllers }: BoardState) => ({
      chips: controllers.chips.map((chip) => Buffer.from(chip.buffer).toString("hex")),
      vcpus: vcpus.map(({ cpuid, state: { msrs, ...structs } }) => ({
        cpuid,
        structs: Object.values(structs).map((view) => Buffer.from(view.buffer, view.byteOffset).toString("hex")),
        msrs: msrs.filter(({ index }) => ![0x10, 0x6e0].includes(index)).map(({ index, value }) => `${index}=${value}`),
      })),
    });
    const before = timeless(board.board.save());
    using next = await continued(board, { cpuCount: 2 });
    expect(timeless(next.board.save())).toEqual(before);
  });

  it("keeps what the guest says of memory types and machine checks, of each processor, though KVM does not list it", async () => {
    const written = (processor: bigint): Msr[] => [
      { index: 0x200, value: 0xc000_0000n + (processor << 20n) },
      { index: 0x201, value: 0xf_8000_0800n },
      { index: 0x20e, value: 0xe000_0001n },
      { index: 0x250, value: 0x0606_0606_0606_0606n },
      { index: 0x259, value: 0n },
      { index: 0x26f, value: 0x0505_0505_0505_0505n },
      { index: 0x2ff, value: 0xc00n },
      { index: 0x400, value: 0xffff_ffff_ffff_ffffn },
      { index: 0x47e, value: 0x1234n + processor },
    ];
    const indexes = written(0n).map(({ index }) => index);
    using board = await TestBoard.make({ cpuCount: 2 });
    board.board.vcpus.forEach(({ fd }, i) => void expect(setMsrs(fd, written(BigInt(i)))).toEqual([]));
    using next = await continued(board, { cpuCount: 2 });
    expect(next.board.vcpus.map(({ fd }) => getMsrs(fd, indexes))).toEqual([written(0n), written(1n)]);
    // The one that makes the ranges count comes when they are there.
    const order = board.board.save().vcpus[0]?.state.msrs.map(({ index }) => index) ?? [];
    expect(order.filter((index) => index >= 0x200 && index <= 0x2ff && index !== 0x277).at(-1)).toBe(0x2ff);
  });

  it("goes on with the memory types that a kernel finds at first, where an older launcher did not save the guest's", async () => {
    using board = await TestBoard.make();
    const [vcpu] = board.board.vcpus;
    const types = [0x200, 0x201, 0x250, 0x2ff];
    const atFirst = getMsrs(vcpu?.fd ?? -1, types);
    expect(atFirst.at(-1)).toEqual({ index: 0x2ff, value: 0x806n });
    using next = await continued(board, {}, (saved) => ({
      ...saved,
      vcpus: saved.vcpus.map(({ state, ...rest }) => ({
        ...rest,
        state: { ...state, msrs: state.msrs.filter(({ index }) => index < 0x200 || index >= 0x480 || index === 0x277) },
      })),
    }));
    expect(getMsrs(next.board.vcpus[0]?.fd ?? -1, types)).toEqual(atFirst);
  });

  it.each([
    ["counter", "timer 2000000"],
    ["deadline", "timer 2000000 1"],
  ])("loses no interrupt of its timer, by %s", async (_kind, command) => {
    let board = await TestBoard.make({ commands: `${command}; load 0x400000 16` });
    board.runner.run();
    await board.said("load runs");
    for (let round = 0; round < 5; round++) {
      await board.runner.halt();
      const next = await continued(board, {});
      board[Symbol.dispose]();
      board = next;
      board.runner.run();
      const before = word(board, TIMER_TICKS);
      await board.until(() => word(board, TIMER_TICKS) > before + 2, "the timer to go on");
    }
    board[Symbol.dispose]();
  });

  it("does not go on with other processors than were saved, nor on a host without what its guest uses", async () => {
    using board = await TestBoard.make({ cpuCount: 2 });
    await expect(continued(board, { cpuCount: 1 })).rejects.toThrow("2 were saved, and this machine has 1");
    const demanding = (saved: BoardState): BoardState => ({
      ...saved,
      vcpus: saved.vcpus.map((vcpu) => ({
        ...vcpu,
        cpuid: vcpu.cpuid.map((entry) =>
          entry.leaf === 7 && entry.subleaf === 0 ? { ...entry, ebx: 0xffff_ffff } : entry,
        ),
      })),
    });
    await expect(continued(board, { cpuCount: 2 }, demanding)).rejects.toThrow(
      /uses what this host does not have: .*cpuid/,
    );
  });

  it("refuses a processor that no host would run, and goes on with the process", async () => {
    using board = await TestBoard.make();
    const nonsense = (saved: BoardState): BoardState => ({
      ...saved,
      vcpus: saved.vcpus.map((vcpu) => {
        vcpu.state.sregs.setUint32(224, 0x8000_0000, true);
        return vcpu;
      }),
    });
    await expect(continued(board, {}, nonsense)).rejects.toThrow(StateRefused);
    const chips = (saved: BoardState): BoardState => {
      saved.controllers.chips[0]?.setUint32(0, 7, true);
      return saved;
    };
    await expect(continued(board, {}, chips)).rejects.toThrow("interrupt controllers 7, 1, 2");
    const huge = (saved: BoardState): BoardState => ({
      ...saved,
      vcpus: saved.vcpus.map((vcpu) => ({
        ...vcpu,
        state: { ...vcpu.state, xsave: new DataView(new Uint8Array(100_000).fill(1).buffer) },
      })),
    });
    await expect(continued(board, {}, huge)).rejects.toThrow("vector registers");
  });
});
