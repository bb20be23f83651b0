import { describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { type Gpa, gpa } from "../memory/gpa.ts";
import { crossesEvent, Virtqueue, VirtqueueError } from "./queue.ts";
import {
  type Buffer,
  INDIRECT,
  NEXT,
  type RingOptions,
  SplitRingDriver,
  testMemory,
  WRITE,
  writeDescriptorAt,
} from "./testing/split-ring-driver.ts";

// Many cases, or many operations: they take long where other work runs too.
jest.setTimeout(60_000);

const LOW_END = 0x40000;
const HIGH_START = 0x50000;
const HIGH_END = 0x60000;
const TABLE = 0x8000;

function setUp(size = 4, options: RingOptions = {}) {
  const memory = testMemory();
  const driver = new SplitRingDriver(memory, size, options);
  return { memory, driver, queue: new Virtqueue(memory, driver.layout) };
}

const at = (address: number, lengthBytes: number, writable = false): Buffer => ({ address, lengthBytes, writable });

function segments(queue: Virtqueue) {
  const chain = queue.pop();
  if (chain === null) return null;
  return Array.from({ length: chain.count }, (_, i) =>
    at(chain.address(i), chain.lengthBytes(i), i >= chain.readableCount),
  );
}

function finishOne(queue: Virtqueue) {
  queue.push(queue.pop()?.head ?? -1, 0);
}

describe("a split virtqueue", () => {
  it("takes chains in order and gives them back", () => {
    const { driver, queue } = setUp();
    expect(queue.pop()).toBeNull();
    driver.add([at(0x2000, 16), at(0x3000, 512, true), at(0x4000, 1, true)]);
    driver.add([at(0x5000, 8)]);
    expect(segments(queue)).toEqual([at(0x2000, 16), at(0x3000, 512, true), at(0x4000, 1, true)]);
    expect(segments(queue)).toEqual([at(0x5000, 8)]);
    expect(queue.pop()).toBeNull();
    queue.push(3, 0);
    queue.push(0, 513);
    expect(driver.takeUsed()).toEqual([
      { head: 3, writtenBytes: 0 },
      { head: 0, writtenBytes: 513 },
    ]);
    expect(queue.inFlightCount).toBe(0);
  });

  it("sums what is readable and writable", () => {
    const { driver, queue } = setUp();
    driver.add([at(0x2000, 16), at(0x3000, 100), at(0x4000, 1000, true)]);
    const chain = queue.pop();
    expect([chain?.readableBytes, chain?.writableBytes]).toEqual([116, 1000]);
  });

  it("copies readable bytes out and writable bytes in across any split", () => {
    const { memory, driver, queue } = setUp(8);
    memory.write(gpa(0x2000), Uint8Array.of(1, 2, 3));
    memory.write(gpa(0x3000), Uint8Array.of(4, 5, 6, 7));
    driver.add([at(0x2000, 3), at(0x3000, 4), at(0x4000, 2, true), at(0x5000, 3, true)]);
    const chain = queue.pop();
    const out = new Uint8Array(10);
    expect(chain?.read(memory, 2, out)).toBe(5);
    expect([...out]).toEqual([3, 4, 5, 6, 7, 0, 0, 0, 0, 0]);
    expect(chain?.write(memory, 1, Uint8Array.of(9, 8, 7, 6, 5, 4))).toBe(4);
    expect([...memory.view(gpa(0x4000), 2), ...memory.view(gpa(0x5000), 3)]).toEqual([0, 9, 8, 7, 6]);
  });

  it("follows indirect tables, alone and after plain descriptors", () => {
    const { driver, queue } = setUp(4, { indirect: true });
    driver.addIndirect(TABLE, [at(0x2000, 16), at(0x3000, 4, true)]);
    expect(segments(queue)).toEqual([at(0x2000, 16), at(0x3000, 4, true)]);
    driver.writeDescriptor(1, 0x6000, 5, NEXT, 2);
    driver.writeDescriptor(2, TABLE, 32, INDIRECT);
    driver.makeAvailable(1);
    expect(segments(queue)).toEqual([at(0x6000, 5), at(0x2000, 16), at(0x3000, 4, true)]);
  });

  it("takes chains longer than the ring, by tables, as long as the device's limit lets them be", () => {
    const memory = testMemory();
    const driver = new SplitRingDriver(memory, 2, { indirect: true });
    const queue = new Virtqueue(memory, { ...driver.layout, chainLimit: 5 });
    driver.addIndirect(
      TABLE,
      Array.from({ length: 5 }, () => at(0x2000, 8)),
    );
    expect(queue.pop()?.count).toBe(5);
    driver.addIndirect(
      TABLE,
      Array.from({ length: 6 }, () => at(0x2000, 8)),
    );
    expect(() => queue.pop()).toThrow(VirtqueueError);
  });

  it("skips empty descriptors", () => {
    const { driver, queue } = setUp();
    driver.add([at(0x2000, 0), at(0x3000, 7), at(0x4000, 0, true)]);
    expect(segments(queue)).toEqual([at(0x3000, 7)]);
  });

  it("goes on where another one stopped", () => {
    const { memory, driver, queue } = setUp(2);
    for (let i = 0; i < 5; i++) {
      driver.add([at(0x2000, 1)]);
      finishOne(queue);
      driver.takeUsed();
    }
    const next = new Virtqueue(memory, driver.layout);
    next.resumeAt(queue.position);
    const head = driver.add([at(0x2000, 1)]);
    expect(next.pop()?.head).toBe(head);
    next.push(head, 1);
    expect(driver.takeUsed()).toEqual([{ head, writtenBytes: 1 }]);
  });
});

describe("suppression of notifications and interrupts", () => {
  it("interrupts unless the driver asked not to", () => {
    const { driver, queue } = setUp();
    expect(queue.takeInterrupt()).toBe(false);
    driver.add([at(0x2000, 1)]);
    finishOne(queue);
    expect(queue.takeInterrupt()).toBe(true);
    expect(queue.takeInterrupt()).toBe(false);
    driver.setAvailableFlags(1);
    driver.add([at(0x2000, 1)]);
    finishOne(queue);
    expect(queue.takeInterrupt()).toBe(false);
  });

  it("interrupts with EVENT_IDX only when the used index passes used_event", () => {
    const { driver, queue } = setUp(4, { eventIndex: true });
    driver.setUsedEvent(1);
    const finish = () => {
      driver.add([at(0x2000, 1)]);
      finishOne(queue);
      driver.takeUsed();
      return queue.takeInterrupt();
    };
    expect([finish(), finish(), finish()]).toEqual([false, true, false]);
  });

  it("asks the driver not to ring while it works, and to ring again afterwards", () => {
    const { driver, queue } = setUp();
    queue.suppressNotifications();
    driver.add([at(0x2000, 1)]);
    expect(driver.takeKick()).toBe(false);
    expect(queue.enableNotifications()).toBe(true);
    queue.pop();
    expect(queue.enableNotifications()).toBe(false);
    driver.add([at(0x2000, 1)]);
    expect(driver.takeKick()).toBe(true);
  });

  it("moves avail_event on with EVENT_IDX", () => {
    const { driver, queue } = setUp(4, { eventIndex: true });
    driver.add([at(0x2000, 1)]);
    expect(driver.takeKick()).toBe(true);
    driver.add([at(0x2000, 1)]);
    expect(driver.takeKick()).toBe(false);
    expect(queue.pop() && queue.enableNotifications()).toBe(true);
    queue.pop();
    expect(queue.enableNotifications()).toBe(false);
    expect(driver.availEvent).toBe(2);
    driver.add([at(0x2000, 1)]);
    expect(driver.takeKick()).toBe(true);
  });

  it("decides as the specification's formula for all distances around the wrap", () => {
    for (const base of [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff])
      for (let moved = 0; moved <= 8; moved++)
        for (let event = -9; event <= 9; event++) {
          const passed = Array.from({ length: moved }, (_, i) => (base + i) & 0xffff);
          const wanted = passed.includes((base + event) & 0xffff);
          expect(crossesEvent((base + event) & 0xffff, base, (base + moved) & 0xffff)).toBe(wanted);
        }
  });
});

// Numbers as in the list of what a hostile guest tries.
describe("a hostile driver", () => {
  const fails = (queue: Virtqueue) => expect(() => queue.pop()).toThrow(VirtqueueError);

  it("1: chain loop", () => {
    const { driver, queue } = setUp();
    driver.writeDescriptor(0, 0x2000, 0, NEXT, 1);
    driver.writeDescriptor(1, 0x2000, 0, NEXT, 0);
    driver.makeAvailable(0);
    fails(queue);
    const self = setUp();
    self.driver.writeDescriptor(2, 0x2000, 8, NEXT, 2);
    self.driver.makeAvailable(2);
    fails(self.queue);
  });

  it("2: chain longer than the queue, by an indirect table after plain descriptors", () => {
    const { driver, queue, memory } = setUp(4, { indirect: true });
    for (let i = 0; i < 4; i++) writeDescriptorAt(memory, TABLE + 16 * i, 0x2000, 1, i < 3 ? NEXT : 0, i + 1);
    driver.writeDescriptor(0, 0x2000, 1, NEXT, 1);
    driver.writeDescriptor(1, TABLE, 64, INDIRECT);
    driver.makeAvailable(0);
    fails(queue);
  });

  it("3: next beyond the table", () => {
    const { driver, queue } = setUp();
    driver.writeDescriptor(0, 0x2000, 1, NEXT, 4);
    driver.makeAvailable(0);
    fails(queue);
  });

  it.each([4, 5, 0x8000, 0xffff])("4: head %d in a ring of 4", (head) => {
    const { driver, queue } = setUp();
    driver.makeAvailable(head);
    fails(queue);
  });

  it("5: the same head twice while it is in flight, and again after it came back", () => {
    const { driver, queue } = setUp();
    const head = driver.add([at(0x2000, 1)]);
    driver.makeAvailable(head);
    queue.pop();
    fails(queue);
    queue.push(head, 0);
    expect(queue.pop()?.head).toBe(head);
  });

  it.each([
    ["6: beyond RAM", HIGH_END, 1],
    ["6: far beyond RAM", 2 ** 40, 1],
    ["6: beyond any physical address", 2 ** 52, 1],
    ["7: in the hole", LOW_END, 16],
    ["8: across the end of RAM", HIGH_END - 8, 16],
    ["8: across a hole", LOW_END - 8, HIGH_START - LOW_END + 16],
    ["9: address plus length wraps 2^64", 2 ** 64 - 4096, 8192],
    ["11: length 0xffffffff", 0x2000, 0xffffffff],
  ])("%s", (_name, address, lengthBytes) => {
    const { driver, queue } = setUp();
    driver.writeDescriptor(0, address, lengthBytes, 0);
    driver.makeAvailable(0);
    fails(queue);
  });

  it("10: length 0 gives an empty chain", () => {
    const { driver, queue } = setUp();
    driver.add([at(0x2000, 0)]);
    expect(queue.pop()?.count).toBe(0);
  });

  it("12: lengths that sum up to 4 GiB", () => {
    const memory = testMemory();
    const real = memory.contains.bind(memory);
    memory.contains = (address, lengthBytes) => lengthBytes === 0x80000000 || real(address, lengthBytes);
    const driver = new SplitRingDriver(memory, 4);
    const queue = new Virtqueue(memory, driver.layout);
    driver.add([at(0x2000, 0x80000000, true), at(0x2000, 0x80000000, true)]);
    fails(queue);
  });

  it("13 and 14: readable after writable", () => {
    const { driver, queue } = setUp();
    driver.add([at(0x2000, 1, true), at(0x2000, 1)]);
    fails(queue);
  });

  it("16: an indirect descriptor that was not negotiated", () => {
    const { driver, queue } = setUp();
    driver.addIndirect(TABLE, [at(0x2000, 1)]);
    fails(queue);
  });

  it("17: nested indirect tables, also one that is the descriptor table itself", () => {
    const { memory, driver, queue } = setUp(4, { indirect: true });
    writeDescriptorAt(memory, TABLE, TABLE, 16, INDIRECT, 0);
    driver.writeDescriptor(0, TABLE, 16, INDIRECT);
    driver.makeAvailable(0);
    fails(queue);
    const self = setUp(4, { indirect: true });
    self.driver.writeDescriptor(0, self.driver.layout.descriptorTable, 64, INDIRECT);
    self.driver.makeAvailable(0);
    fails(self.queue);
  });

  it("18: INDIRECT with NEXT", () => {
    const { driver, queue } = setUp(4, { indirect: true });
    driver.writeDescriptor(0, TABLE, 16, INDIRECT | NEXT, 1);
    driver.makeAvailable(0);
    fails(queue);
  });

  it.each([0, 8, 17, 16 * 5])("19: an indirect table of %d bytes in a ring of 4", (lengthBytes) => {
    const { driver, queue } = setUp(4, { indirect: true });
    driver.writeDescriptor(0, TABLE, lengthBytes, INDIRECT);
    driver.makeAvailable(0);
    fails(queue);
  });

  it("19: a next beyond the indirect table", () => {
    const { memory, driver, queue } = setUp(4, { indirect: true });
    writeDescriptorAt(memory, TABLE, 0x2000, 1, NEXT, 1);
    driver.writeDescriptor(0, TABLE, 16, INDIRECT);
    driver.makeAvailable(0);
    fails(queue);
  });

  it.each([LOW_END - 16, LOW_END, 2 ** 52])("20: an indirect table of 32 bytes at %d", (table) => {
    const { driver, queue } = setUp(4, { indirect: true });
    driver.writeDescriptor(0, table, 32, INDIRECT);
    driver.makeAvailable(0);
    fails(queue);
  });

  it("21: a descriptor that changes after it was taken does not change the chain", () => {
    const { driver, queue } = setUp();
    const head = driver.add([at(0x2000, 16)]);
    const chain = queue.pop();
    driver.writeDescriptor(head, HIGH_END, 0xffffffff, NEXT | WRITE, 3);
    expect([chain?.address(0), chain?.lengthBytes(0), chain?.count]).toEqual([0x2000, 16, 1]);
  });

  it("21: each field of a descriptor is read exactly once", () => {
    const { memory, driver, queue } = setUp(4, { indirect: true });
    const reads: number[] = [];
    driver.addIndirect(TABLE, [at(0x2000, 16), at(0x3000, 4, true)]);
    const [word, words] = [memory.readU32.bind(memory), memory.readWords.bind(memory)];
    memory.readU32 = (address) => {
      reads.push(address);
      return word(address);
    };
    memory.readWords = (address, target) => {
      for (let i = 0; i < target.length; i++) reads.push(address + 4 * i);
      words(address, target);
    };
    queue.pop();
    expect(new Set(reads).size).toBe(reads.length);
    expect(reads.length).toBe(12);
  });

  it.each([5, 0x7fff, 0xffff])("22: the available index jumps by %d in a ring of 4", (jump) => {
    const { driver, queue } = setUp();
    driver.setAvailableIndex(jump);
    fails(queue);
  });

  it("22: the available index goes back", () => {
    const { driver, queue } = setUp();
    driver.add([at(0x2000, 1)]);
    finishOne(queue);
    driver.setAvailableIndex(0);
    fails(queue);
  });

  it("23: poisoned flags and used_event only cost the driver its interrupts", () => {
    const { driver, queue } = setUp(4, { eventIndex: true });
    driver.setAvailableFlags(0xffff);
    driver.setUsedEvent(0x8000);
    driver.add([at(0x2000, 1)]);
    finishOne(queue);
    expect(queue.takeInterrupt()).toBe(false);
    expect(driver.takeUsed().length).toBe(1);
  });

  it("24: rings that overlap each other and the data", () => {
    const memory = testMemory();
    const layout = {
      size: 4,
      descriptorTable: gpa(0x1000),
      availableRing: gpa(0x1000),
      usedRing: gpa(0x1000),
      chainLimit: 4,
      eventIndex: true,
      indirect: true,
    };
    const queue = new Virtqueue(memory, layout);
    for (let i = 0; i < 64; i++) {
      memory.writeU32(gpa(0x1000 + 4 * (i % 16)), (i * 0x9e3779b1) >>> 0);
      try {
        const chain = queue.pop();
        if (chain) {
          chain.write(memory, 0, new Uint8Array(64).fill(i));
          queue.push(chain.head, 64);
          queue.takeInterrupt();
          queue.enableNotifications();
        }
      } catch (error) {
        expect(error).toBeInstanceOf(VirtqueueError);
      }
    }
  });

  const layout = (change: Partial<Virtqueue["layout"]>) => ({
    ...new SplitRingDriver(testMemory(), 4).layout,
    ...change,
  });
  it.each([
    ["25: unaligned descriptor table", { descriptorTable: gpa(0x1008) }],
    ["25: unaligned available ring", { availableRing: gpa(0x1001) }],
    ["25: unaligned used ring", { usedRing: gpa(0x1002) }],
    ["26: descriptor table partly outside RAM", { descriptorTable: gpa(LOW_END - 32) }],
    ["26: available ring partly outside RAM", { availableRing: gpa(LOW_END - 10) }],
    ["26: used ring across the hole", { usedRing: gpa(LOW_END - 32) }],
    ["26: used_event outside RAM", { availableRing: gpa(LOW_END - 12), eventIndex: true }],
    ["27: size 0", { size: 0 }],
    ["27: size 3", { size: 3 }],
    ["27: size 65536", { size: 65536 }],
    ["27: no number", { size: Number.NaN }],
  ])("%s", (_name, change) => {
    expect(() => new Virtqueue(testMemory(), layout(change))).toThrow(VirtqueueError);
  });

  it("26: rings that end exactly where RAM does", () => {
    expect(() => new Virtqueue(testMemory(), layout({ availableRing: gpa(LOW_END - 12) }))).not.toThrow();
    expect(() => new Virtqueue(testMemory(), layout({ usedRing: gpa(LOW_END - 36) }))).not.toThrow();
  });

  it("a device that pushes what is not in flight is our own defect", () => {
    const { queue } = setUp();
    expect(() => queue.push(0, 0)).toThrow(RangeError);
    expect(() => queue.push(99, 0)).toThrow(RangeError);
  });
});

describe("exhaustively, over small rings", () => {
  it("keeps order and counts for every size, start and batch around the wrap of 16 bits", () => {
    for (const size of [1, 2, 4, 8])
      for (const eventIndex of [false, true])
        for (const start of [0, 1, 0x7fff, 0x8000, 0xffff - size, 0xfffe, 0xffff])
          for (let batch = 1; batch <= size; batch++) {
            const { driver, queue } = setUp(size, { eventIndex });
            driver.startAt(start);
            queue.resumeAt({ nextAvailable: start, nextUsed: start, signalledUsed: start });
            for (let round = 0; round < 4; round++) {
              const heads = Array.from({ length: batch }, (_, i) => driver.add([at(0x2000 + i, 1 + i)]));
              const popped = heads.map((_, i) => {
                const chain = queue.pop();
                expect([chain?.address(0), chain?.lengthBytes(0)]).toEqual([0x2000 + i, 1 + i]);
                return chain?.head ?? -1;
              });
              expect(popped).toEqual(heads);
              expect(queue.pop()).toBeNull();
              for (const head of popped.reverse()) queue.push(head, head);
              expect(driver.takeUsed()).toEqual(popped.map((head) => ({ head, writtenBytes: head })));
            }
          }
  });

  it("answers every descriptor graph of a ring of 2 with a chain or a VirtqueueError", () => {
    const flags = [0, NEXT, WRITE, NEXT | WRITE, INDIRECT, INDIRECT | NEXT, 0xfff8];
    for (const first of flags)
      for (const second of flags)
        for (const nextOfFirst of [0, 1, 2])
          for (const nextOfSecond of [0, 1, 2])
            for (const head of [0, 1, 2]) {
              const { driver, queue } = setUp(2, { indirect: true });
              driver.writeDescriptor(0, driver.layout.descriptorTable, 32, first, nextOfFirst);
              driver.writeDescriptor(1, 0x2000, 16, second, nextOfSecond);
              driver.makeAvailable(head);
              try {
                expect(queue.pop()?.count).toBeLessThanOrEqual(2);
                expect(queue.inFlightCount).toBe(1);
              } catch (error) {
                expect(error).toBeInstanceOf(VirtqueueError);
                expect(queue.inFlightCount).toBe(0);
              }
            }
  });
});

describe("for any sequence", () => {
  /** Driver and device step by step in any order, with completions out of order; a model says what must be. */
  it("loses and repeats nothing, and no side sleeps while the other waits", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 4, 8),
        fc.boolean(),
        fc.integer({ min: 0, max: 0xffff }),
        fc.array(fc.tuple(fc.constantFrom("add", "serve", "finish", "reap"), fc.nat(7)), { maxLength: 120 }),
        (size, eventIndex, start, steps) => {
          const { driver, queue } = setUp(size, { eventIndex });
          driver.startAt(start);
          driver.setUsedEvent(start);
          queue.resumeAt({ nextAvailable: start, nextUsed: start, signalledUsed: start });
          if (queue.enableNotifications()) throw new Error("an empty ring");
          const published: number[] = [];
          const inFlight: number[] = [];
          const finished: number[] = [];
          let interrupted = false;
          for (const [step, choice] of steps) {
            if (step === "add" && driver.freeDescriptors > 0) {
              published.push(driver.add([at(0x2000, 1 + choice)]));
              // The device sleeps between steps, having asked to be rung: so every first chain rings.
              if (published.length === 1) expect(driver.takeKick()).toBe(true);
            } else if (step === "serve") {
              queue.suppressNotifications();
              do {
                for (let chain = queue.pop(); chain !== null; chain = queue.pop()) inFlight.push(chain.head);
              } while (queue.enableNotifications());
              expect(inFlight.slice(inFlight.length - published.length)).toEqual(published);
              published.length = 0;
              driver.takeKick();
            } else if (step === "finish" && inFlight.length > 0) {
              const [head = -1] = inFlight.splice(choice % inFlight.length, 1);
              queue.push(head, 1);
              const wasIdle = finished.length === 0;
              finished.push(head);
              const interrupts = queue.takeInterrupt();
              if (wasIdle) expect(interrupts).toBe(true);
              interrupted ||= interrupts;
            } else if (step === "reap") {
              expect(interrupted || finished.length === 0).toBe(true);
              expect(driver.takeUsed().map(({ head }) => head)).toEqual(finished);
              finished.length = 0;
              interrupted = false;
              driver.setUsedEvent(queue.position.nextUsed);
            }
            expect(queue.inFlightCount).toBe(inFlight.length);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it("stays inside guest memory and throws nothing but VirtqueueError on garbage", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 512, maxLength: 512 }), fc.constantFrom(2, 4, 8), (garbage, size) => {
        const { memory, driver, queue } = setUp(size, { indirect: true, eventIndex: true });
        memory.write(driver.layout.descriptorTable, garbage);
        memory.write(gpa(TABLE), garbage);
        for (let i = 0; i < size; i++) {
          // Half of the descriptors name valid memory, so that the walk goes deep.
          const descriptor = driver.layout.descriptorTable + 16 * i;
          if (i % 2 === 0) memory.writeU32((descriptor + 4) as Gpa, 0);
          if (i % 2 === 0) memory.writeU16((descriptor + 2) as Gpa, 0);
          if (i % 2 === 0) memory.writeU16((descriptor + 10) as Gpa, 0);
        }
        driver.setAvailableIndex(size);
        for (let i = 0; i <= size; i++) {
          try {
            const chain = queue.pop();
            if (chain === null) break;
            for (let s = 0; s < chain.count; s++)
              expect(memory.contains(chain.address(s), chain.lengthBytes(s))).toBe(true);
            queue.push(chain.head, 0);
          } catch (error) {
            expect(error).toBeInstanceOf(VirtqueueError);
            break;
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe.each([
  ["flags", false],
  ["EVENT_IDX", true],
])("a watched queue, by %s", (_name, eventIndex) => {
  const setUpDrained = () => {
    const made = setUp(4, { eventIndex });
    expect(made.queue.pop()).toBeNull();
    made.queue.enableNotifications();
    return made;
  };
  const add = (driver: SplitRingDriver) => driver.add([at(0x2000, 16)]);

  it("does not have its driver ring, and shows that there is something", () => {
    const { driver, queue } = setUpDrained();
    queue.isWatched = true;
    for (let i = 0; i < 10; i++) {
      queue.suppressNotifications();
      expect(queue.pop()).toBeNull();
      expect([queue.enableNotifications(), queue.hasNews]).toEqual([false, false]);
      add(driver);
      // The first may pass what was asked for before.
      if (driver.takeKick()) expect(i).toBe(0);
      expect(queue.hasNews).toBe(true);
      finishOne(queue);
      driver.takeUsed();
    }
  });

  it("rings again after, for the next chain", () => {
    const { driver, queue } = setUpDrained();
    queue.isWatched = true;
    add(driver);
    driver.takeKick();
    finishOne(queue);
    expect(queue.pop()).toBeNull();
    expect(queue.endWatch()).toBe(false);
    add(driver);
    expect(driver.takeKick()).toBe(true);
  });

  it("tells of a chain that came before it asked to ring", () => {
    const { driver, queue } = setUpDrained();
    queue.isWatched = true;
    queue.suppressNotifications();
    add(driver);
    driver.takeKick();
    expect(queue.endWatch()).toBe(true);
  });

  it("has no news while the device has not done with what it found", () => {
    const { driver, queue } = setUpDrained();
    queue.isWatched = true;
    add(driver);
    add(driver);
    queue.pop();
    expect([queue.hasNews, queue.endWatch()]).toEqual([false, false]);
    queue.pop();
    expect(queue.pop()).toBeNull();
    queue.enableNotifications();
    driver.takeKick();
    driver.takeUsed();
    add(driver);
    expect(driver.takeKick()).toBe(true);
  });
});

describe("a queue that is watched now and then", () => {
  it("has every chain served, whatever the order of what driver, device and poller do", () => {
    const step = fc.constantFrom("add", "hear", "look", "watch", "end watch", "serve a part");
    const run = (eventIndex: boolean, steps: readonly string[]) => {
      const { driver, queue } = setUp(4, { eventIndex });
      let hasRung = false;
      let continues = false;
      const serve = (limit: number) => {
        queue.suppressNotifications();
        continues = true;
        for (let served = 0; continues && served < limit; served++) {
          const chain = queue.pop();
          if (chain) queue.push(chain.head, 0);
          else continues = queue.enableNotifications();
        }
        driver.takeUsed();
      };
      const actions: Record<string, () => void> = {
        add: () => {
          if (driver.freeDescriptors === 0) return;
          driver.add([at(0x2000, 16)]);
          hasRung ||= driver.takeKick();
        },
        hear: () => {
          if (hasRung) serve(10);
          hasRung = false;
        },
        look: () => {
          if (queue.isWatched && queue.hasNews) serve(10);
        },
        watch: () => {
          queue.isWatched = true;
        },
        "end watch": () => {
          if (queue.isWatched && queue.endWatch()) serve(10);
        },
        "serve a part": () => {
          if (continues) serve(1);
        },
      };
      serve(10);
      for (const name of steps) actions[name]?.();
      // All that is owed: the watch ends, the loop hears of bells, the device goes on where it stopped.
      for (const name of ["look", "end watch", "hear", "serve a part", "serve a part", "serve a part"])
        actions[name]?.();
      for (let i = 0; i < 8; i++) for (const name of ["serve a part", "hear"]) actions[name]?.();
      expect(queue.pop()).toBeNull();
    };
    fc.assert(fc.property(fc.boolean(), fc.array(step, { maxLength: 60 }), run), { numRuns: 2000 });
  });
});
