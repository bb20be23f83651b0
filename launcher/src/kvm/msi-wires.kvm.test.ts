import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { TestMachine } from "../machine/testing/test-machine.ts";
import { EventFd } from "../sys/eventfd.ts";
import { until } from "../testing/until.ts";
import { KvmMsiWires } from "./msi-wires.ts";

const VECTOR = 0x50;
const OTHER = 0x51;
const message = (vector: number) => ({ addressLow: 0xfee00000, addressHigh: 0, data: vector });

let test: TestMachine;
let wires: KvmMsiWires;
let event: EventFd;
beforeEach(async () => {
  test = await TestMachine.start();
  wires = new KvmMsiWires(test.machine.memory.vmFd);
  event = new EventFd();
});
afterEach(async () => {
  await test[Symbol.asyncDispose]();
  event[Symbol.dispose]();
});

/** How often a vector has interrupted the guest; what is typed comes by interrupts of a pin, which have to go on. */
async function counted(vector: number): Promise<number> {
  const said = await test.console.ask(`interrupts ${vector}`, "\n");
  return Number(/interrupts 0x\w+: (\d+)/.exec(said)?.[1]);
}

const counts = (vector: number, count: number) => until(async () => (await counted(vector)) === count);

function wire() {
  const made = wires.wire(event);
  if (!made) throw new Error("there is room for one");
  return made;
}

describe("a wire from an eventfd to a message", () => {
  it("interrupts the guest at each signal, without this process", async () => {
    using wired = wire();
    wired.set(message(VECTOR));
    for (let i = 1; i <= 3; i++) {
      event.signal();
      await counts(VECTOR, i);
    }
    // KVM has taken them.
    expect(event.drain()).toBe(false);
  });

  it("keeps a signal while there is no message, and sends it with the next", async () => {
    using wired = wire();
    event.signal();
    wired.set(message(VECTOR));
    await counts(VECTOR, 1);
    wired.set(null);
    event.signal();
    event.signal();
    expect(await counted(VECTOR)).toBe(1);
    wired.set(message(VECTOR));
    await counts(VECTOR, 2);
    expect(event.drain()).toBe(false);
  });

  it("sends another message from the moment on that it is told", async () => {
    using wired = wire();
    wired.set(message(VECTOR));
    wired.set(message(OTHER));
    event.signal();
    await counts(OTHER, 1);
    expect(await counted(VECTOR)).toBe(0);
  });

  it("is independent of others, and gone when it is disposed", async () => {
    using other = new EventFd();
    using second = wires.wire(other);
    second?.set(message(OTHER));
    {
      using first = wire();
      first.set(message(VECTOR));
      other.signal();
      event.signal();
      await counts(VECTOR, 1);
      await counts(OTHER, 1);
    }
    event.signal();
    other.signal();
    await counts(OTHER, 2);
    expect(await counted(VECTOR)).toBe(1);
    expect(event.drain()).toBe(true);
  });

  it("is one of many at most", () => {
    const all = new DisposableStack();
    let count = 0;
    for (let made = wires.wire(event); made; made = wires.wire(event)) {
      all.use(made);
      count++;
    }
    expect(count).toBe(1024);
    all[Symbol.dispose]();
    wire()[Symbol.dispose]();
  });
});
