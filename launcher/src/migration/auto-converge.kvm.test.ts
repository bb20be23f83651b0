import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { kvmIoctl } from "../kvm/kvm-ioctl.ts";
import { TestBoard } from "../machine/testing/test-board.ts";
import { TestMachine } from "../machine/testing/test-machine.ts";
import type { MigrationPlan } from "./source.ts";
import { MigrationLab } from "./testing/migration-lab.ts";

const MIB = 2 ** 20;
/** A working set of 2 MiB, of which the link takes as much in a quarter of a second. */
const PLAN = { bandwidthBytesPerSecond: 8 * MIB, maxDowntimeMs: 60, autoConverge: true, deadlineMs: 120_000 };
const WORKING_SET = "0x800000 512";

let lab: MigrationLab;
let cleanup: AsyncDisposableStack;
beforeEach(async () => {
  cleanup = new AsyncDisposableStack();
  lab = cleanup.use(await MigrationLab.make());
});
afterEach(() => cleanup.disposeAsync());

/** Ticks of the guest's time stamp counter in a millisecond. */
async function ticksOfMs(): Promise<number> {
  using board = await TestBoard.make();
  return kvmIoctl(board.board.vcpus[0]?.fd ?? -1, "KVM_GET_TSC_KHZ");
}

/** Has the guest write so many pages of its working set in each millisecond that it is let run. */
async function writing({ console }: TestMachine, pagesOfMs: number): Promise<void> {
  await console.ask(`pace ${WORKING_SET} ${pagesOfMs} ${await ticksOfMs()}`, "pace runs\r\n");
}

/** What became of the writes since. */
async function written({ console }: TestMachine): Promise<{ pages: number; errors: number }> {
  const said = await console.ask("stop", " errors ");
  await console.said("\n");
  const [, pages, errors] = /pace rounds \d+ written (\d+) errors (\d+)/.exec(`${said}${console.text}`) ?? [];
  return { pages: Number(pages), errors: Number(errors) };
}

/** A migration, with the shares of time that the guest was held back in the source, as they came. */
async function move(here: TestMachine, plan: Partial<MigrationPlan>) {
  const there = cleanup.use(await TestMachine.make({ isIncoming: true }));
  const { target, port } = await lab.target(there);
  const throttled = jest.spyOn(here.machine, "throttle");
  const source = lab.source(here, { address: "127.0.0.1", port, connections: 1, ...PLAN, ...plan });
  await source.settled;
  const shares = throttled.mock.calls.map(([share]) => share);
  throttled.mockRestore();
  return { there, source, target, shares };
}

describe("a guest that writes faster than the link takes it", () => {
  it("is given up at the deadline while it is held back, and is as if nothing had been; it moves once it writes less", async () => {
    const here = cleanup.use(await TestMachine.start());
    await here.console.ask("fill 0x1000000 100 5", "fill done");
    // Let run for a hundredth of the time, it still writes more than 2 MiB a second.
    await writing(here, 32);
    const given = await move(here, { bandwidthBytesPerSecond: 2 * MIB, deadlineMs: 8_000 });
    await expect(given.target.running).rejects.toThrow("the source gave up: not done within 8000 ms");
    expect([given.source.phase, given.target.phase]).toEqual(["Failed", "Failed"]);
    expect(given.source.status().message).toBe("not done within 8000 ms; the machine runs on here");
    expect(Math.max(...given.shares)).toBeGreaterThan(0);
    expect(given.shares.at(-1)).toBe(0);
    expect(here.machine.status().state).toBe("Running");
    expect(await written(here)).toMatchObject({ errors: 0 });
    await here.console.ask("check 0x1000000 100 5", "check errors 0\r\n");
    await writing(here, 1);
    expect(await written(here)).toMatchObject({ errors: 0 });
    const { there, source, target } = await move(here, {});
    expect([source.phase, target.phase]).toEqual(["Gone", "Running"]);
    await there.console.ask("check 0x1000000 100 5", "check errors 0\r\n");
  });

  it("comes to an end by being held back, more and more, and not in its new place; nothing that it wrote is lost", async () => {
    const here = cleanup.use(await TestMachine.start());
    await here.console.ask("fill 0x1000000 100 5", "fill done");
    await here.console.ask("timer 3000000 1", "timer runs");
    await writing(here, 4);
    const { there, source, target, shares } = await move(here, {});
    expect([source.phase, target.phase]).toEqual(["Gone", "Running"]);
    const raised = shares.filter((share) => share > 0);
    expect(raised.length).toBeGreaterThan(1);
    expect(raised).toEqual([...raised].sort((a, b) => a - b));
    expect(shares.at(-1)).toBe(0);
    expect(source.status().progress?.rounds).toBeGreaterThan(3);
    const before = there.machine.memory.memory.readU32(0x3000 as never);
    while (there.machine.memory.memory.readU32(0x3000 as never) <= before + 1)
      await new Promise((resolve) => setImmediate(resolve));
    const { pages, errors } = await written(there);
    expect(errors).toBe(0);
    expect(pages).toBeGreaterThan(512);
    await there.console.ask("check 0x1000000 100 5", "check errors 0\r\n");
  });
});
