import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { gpa } from "../../memory/gpa.ts";
import { IoPool } from "../../storage/io-pool.ts";
import { openRawDisk } from "../../storage/raw-disk.ts";
import { Mapping } from "../../sys/mapping.ts";
import { VirtqueueError } from "../queue.ts";
import { BlockDriver, DATA } from "../testing/block-driver.ts";
import { FakeStorage } from "../testing/fake-storage.ts";
import { testMemory } from "../testing/split-ring-driver.ts";
import { BlockDevice, type BlockDeviceOptions } from "./device.ts";
import * as blk from "./protocol.ts";

// Many cases, or many operations: they take long where other work runs too.
jest.setTimeout(60_000);

const OK = 0;
const IOERR = 1;
const UNSUPP = 2;
const NO_STATUS = 255;
const SECTORS = 1024;
const ENOSPC = 28;
/** In the common configuration structure. */
const CONFIG_GENERATION = 0x15;

interface SetUp {
  readonly readOnly?: boolean;
  readonly without?: readonly number[];
  readonly options?: Partial<BlockDeviceOptions>;
  /** What the disk claims to have. */
  readonly sizeBytes?: number;
}

function setUp({ readOnly = false, without = [], options = {}, sizeBytes = SECTORS * 512 }: SetUp = {}) {
  const memory = testMemory();
  const storage = new FakeStorage(memory, SECTORS * 512, readOnly);
  for (let i = 0; i < storage.bytes.length; i++) storage.bytes[i] = (i >>> 9) & 0xff;
  Object.defineProperty(storage, "sizeBytes", { value: sizeBytes, configurable: true });
  const errors: number[] = [];
  const device = new BlockDevice({
    name: "data",
    storage,
    queues: 1,
    onIoError: (errno) => errors.push(errno),
    ...options,
  });
  const features = new Set([...device.features].filter((bit) => !without.includes(bit)));
  const driver = new BlockDriver(device, memory, features);
  return { memory, storage, device, driver, errors };
}

const into = (address: number, lengthBytes: number) => ({ address, lengthBytes, writable: true });
const from = (address: number, lengthBytes: number) => ({ address, lengthBytes });
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("virtio-blk", () => {
  it("reads", () => {
    const { memory, driver } = setUp();
    const { status, used } = driver.run(blk.VIRTIO_BLK_T_IN, 3, [into(DATA, 512), into(DATA + 0x1000, 512)]);
    expect(status).toBe(OK);
    expect(used).toEqual([{ head: 0, writtenBytes: 1025 }]);
    expect([memory.readU8(gpa(DATA + 511)), memory.readU8(gpa(DATA + 0x1000))]).toEqual([3, 4]);
    expect(driver.pci.interrupts).toEqual([1]);
  });

  it("writes", () => {
    const { memory, storage, driver } = setUp();
    memory.fill(gpa(DATA), 1024, 0xab);
    const { status, used } = driver.run(blk.VIRTIO_BLK_T_OUT, 10, [from(DATA, 1024)]);
    expect([status, used]).toEqual([OK, [{ head: 0, writtenBytes: 1 }]]);
    expect([
      ...storage.bytes.slice(10 * 512 - 1, 10 * 512 + 1),
      storage.bytes[12 * 512 - 1],
      storage.bytes[12 * 512],
    ]).toEqual([9, 0xab, 0xab, 12]);
  });

  it("flushes", () => {
    const { storage, driver } = setUp();
    expect(driver.run(blk.VIRTIO_BLK_T_FLUSH, 0).status).toBe(OK);
    expect(storage.log).toEqual(["flush"]);
  });

  it("tells its name", () => {
    const { memory, driver } = setUp({ options: { name: "a-name-of-twenty-byt" } });
    memory.fill(gpa(DATA), 32, 0xff);
    expect(driver.run(blk.VIRTIO_BLK_T_GET_ID, 0, [into(DATA, 20)]).status).toBe(OK);
    expect(Buffer.from(memory.view(gpa(DATA), 21)).toString("latin1")).toBe("a-name-of-twenty-byt\xff");
  });

  it("pads a short name with zeroes", () => {
    const { memory, driver } = setUp();
    memory.fill(gpa(DATA), 32, 0xff);
    driver.run(blk.VIRTIO_BLK_T_GET_ID, 0, [into(DATA, 5), into(DATA + 5, 15)]);
    expect(Buffer.from(memory.view(gpa(DATA), 20)).toString("latin1")).toBe("data".padEnd(20, "\0"));
  });

  it("discards and writes zeroes", () => {
    const { storage, driver } = setUp();
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(8, 16)]).status).toBe(OK);
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(8, 1)]).status).toBe(OK);
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(1023, 1, 1)]).status).toBe(OK);
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(8, 0)]).status).toBe(OK);
    expect(storage.log).toEqual(["discard 4096+8192", "zero 4096+512", `zero unmap ${1023 * 512}+512`]);
  });

  it("counts what it does, and what failed in its storage", () => {
    const { storage, device, driver } = setUp();
    driver.run(blk.VIRTIO_BLK_T_IN, 3, [into(DATA, 512), into(DATA + 0x1000, 512)]);
    driver.run(blk.VIRTIO_BLK_T_OUT, 10, [from(DATA, 1536)]);
    driver.run(blk.VIRTIO_BLK_T_OUT, SECTORS, [from(DATA, 512)]);
    driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(8, 16)]);
    driver.run(blk.VIRTIO_BLK_T_GET_ID, 0, [into(DATA, 20)]);
    storage.errno = 5;
    driver.run(blk.VIRTIO_BLK_T_FLUSH, 0);
    const seconds = expect.any(Number);
    expect(device.use.operations).toMatchObject({
      read: { requests: 1, bytes: 1024, errors: 0, seconds },
      write: { requests: 2, bytes: 1536, errors: 0, seconds },
      flush: { requests: 1, bytes: 0, errors: 1, seconds },
      discard: { requests: 1, bytes: 8192, errors: 0, seconds },
      writeZeroes: { requests: 0, bytes: 0, errors: 0, seconds },
    });
  });

  it("takes as long as its storage", () => {
    const { storage, device, driver } = setUp();
    storage.holds = true;
    const clock = jest.spyOn(performance, "now").mockReturnValue(1000);
    try {
      driver.submit(blk.VIRTIO_BLK_T_FLUSH, 0);
      driver.pci.kick(0);
      clock.mockReturnValue(1250);
      storage.release();
      expect(device.use.operations.flush.seconds).toBe(0.25);
    } finally {
      clock.mockRestore();
    }
  });

  it("that has grown tells its driver, who can use all of it", () => {
    const { storage, device, driver } = setUp({ sizeBytes: 512 * 512 });
    expect(driver.run(blk.VIRTIO_BLK_T_IN, 600, [into(DATA, 512)]).status).toBe(IOERR);
    Object.defineProperty(storage, "sizeBytes", { value: (2 ** 32 + SECTORS) * 512 });
    const generation = driver.pci.common(CONFIG_GENERATION, 1);
    driver.pci.interrupts.length = 0;
    device.sizeChanged();
    expect(driver.pci.interrupts).toEqual([0]);
    expect(driver.pci.common(CONFIG_GENERATION, 1)).not.toBe(generation);
    expect(driver.run(blk.VIRTIO_BLK_T_IN, 600, [into(DATA, 512)]).status).toBe(OK);
    const { capacity } = blk.ConfigOffset;
    expect([driver.pci.deviceConfig(capacity, 4), driver.pci.deviceConfig(capacity + 4, 4)]).toEqual([SECTORS, 1]);
  });

  it("describes itself in its configuration", () => {
    const { driver } = setUp({ options: { queues: 4 } });
    const { pci } = driver;
    expect(pci.config(0, 4)).toBe(0x10421af4);
    expect([pci.deviceConfig(0, 4), pci.deviceConfig(4, 4)]).toEqual([SECTORS, 0]);
    expect([pci.deviceConfig(12, 4), pci.deviceConfig(20, 4), pci.deviceConfig(34, 2)]).toEqual([126, 512, 4]);
    expect([pci.deviceConfig(24, 1), pci.deviceConfig(26, 2), pci.deviceConfig(32, 1)]).toEqual([3, 8, 1]);
    expect([36, 40, 44, 48, 52].map((at) => pci.deviceConfig(at, 4))).toEqual([2 ** 21, 1, 8, 2 ** 21, 1]);
    expect(pci.deviceConfig(56, 1)).toBe(1);
    expect(driver.rings).toHaveLength(4);
  });

  it.each([
    ["one queue", {}, [2, 6, 9, 10, 11, 13, 14, 28, 29, 32]],
    ["four queues", { options: { queues: 4 } }, [2, 6, 9, 10, 11, 12, 13, 14, 28, 29, 32]],
    ["no writes", { readOnly: true }, [2, 5, 6, 9, 10, 11, 28, 29, 32]],
  ])("offers the features of a disk with %s", (_name, how, bits) => {
    const { driver } = setUp(how);
    expect([...driver.pci.offeredFeatures()].sort((a, b) => a - b)).toEqual(bits);
  });

  it("serves all queues", () => {
    const { storage, driver } = setUp({ options: { queues: 3 } });
    for (const queue of [2, 0, 1]) {
      const status = driver.submit(blk.VIRTIO_BLK_T_IN, queue, [into(DATA, 512)], queue);
      driver.pci.kick(queue);
      expect(driver.status(status)).toBe(OK);
    }
    expect(storage.log).toEqual(["read 1024+512", "read 0+512", "read 512+512"]);
    expect(driver.pci.interrupts).toEqual([3, 1, 2]);
  });

  it("has many requests under way, and ends them in any order", () => {
    const { storage, device, driver } = setUp();
    storage.holds = true;
    const statuses = Array.from({ length: 16 }, (_, i) =>
      driver.submit(blk.VIRTIO_BLK_T_IN, i, [into(DATA + i * 512, 512)]),
    );
    driver.pci.kick(0);
    expect([device.inFlightCount, driver.status(statuses[0] ?? 0)]).toEqual([16, NO_STATUS]);
    storage.release();
    expect(statuses.map((status) => driver.status(status))).toEqual(new Array(16).fill(OK));
    expect(
      driver
        .ring()
        .takeUsed()
        .map(({ head }) => head),
    ).toEqual(Array.from({ length: 16 }, (_, i) => 45 - 3 * i));
    expect(Array.from({ length: 16 }, (_, i) => driver.memory.readU8(gpa(DATA + i * 512)))).toEqual(
      Array.from({ length: 16 }, (_, i) => i),
    );
  });

  it("takes no more than its limit at a time, and goes on when requests end", async () => {
    const { storage, device, driver } = setUp({ options: { queues: 4 } });
    storage.holds = true;
    for (let queue = 0; queue < 4; queue++) {
      for (let i = 0; i < 30; i++)
        driver
          .ring(queue)
          .addIndirect(0x30000 + 0x1000 * queue + 48 * i, [
            from(driver.header(blk.VIRTIO_BLK_T_FLUSH, 0), 16),
            into(DATA, 1),
          ]);
      driver.pci.kick(queue);
    }
    expect(device.inFlightCount).toBe(64);
    for (let i = 0; i < 100 && device.inFlightCount > 0; i++) {
      storage.release();
      await turn();
    }
    expect(storage.log).toHaveLength(120);
    for (let queue = 0; queue < 4; queue++) expect(driver.ring(queue).takeUsed()).toHaveLength(30);
  });

  it("marks what was read in the dirty bitmap, and nothing else but rings and status", () => {
    const { memory, driver } = setUp();
    memory.dirty.enable();
    const status = driver.submit(blk.VIRTIO_BLK_T_IN, 0, [into(DATA + 0x3000, 512), into(DATA + 0x5ff0, 512)]);
    memory.dirty.take();
    driver.pci.kick(0);
    const words = memory.dirty.take();
    const pages = [...words].flatMap((word, i) =>
      Array.from({ length: 32 }, (_, b) => ((word >>> b) & 1 ? i * 32 + b : -1)),
    );
    expect(pages.filter((page) => page >= 0)).toEqual([1, status >>> 12, 0x25, 0x27, 0x28]);
  });
});

describe("durability", () => {
  const writes = (driver: BlockDriver, storage: FakeStorage) => {
    storage.log.length = 0;
    expect(driver.run(blk.VIRTIO_BLK_T_OUT, 0, [from(DATA, 512)]).status).toBe(OK);
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(8, 1)]).status).toBe(OK);
    return storage.log.filter((what) => what === "flush").length;
  };

  it("is the driver's affair while it can flush", () => {
    const { driver, storage } = setUp();
    expect(writes(driver, storage)).toBe(0);
  });

  it("is the device's when the driver turns the cache off", () => {
    const { driver, storage } = setUp();
    driver.pci.deviceConfig(32, 1, 0);
    expect([driver.pci.deviceConfig(32, 1), writes(driver, storage)]).toEqual([0, 2]);
    driver.pci.deviceConfig(32, 1, 1);
    expect(writes(driver, storage)).toBe(0);
    driver.pci.deviceConfig(32, 1, 2);
    driver.pci.deviceConfig(32, 4, 0);
    expect(driver.pci.deviceConfig(32, 1)).toBe(1);
  });

  it("is the device's when the driver cannot flush", () => {
    const neither = setUp({ without: [blk.VIRTIO_BLK_F_FLUSH, blk.VIRTIO_BLK_F_CONFIG_WCE] });
    expect(writes(neither.driver, neither.storage)).toBe(2);
    const settable = setUp({ without: [blk.VIRTIO_BLK_F_FLUSH] });
    expect([settable.driver.pci.deviceConfig(32, 1), writes(settable.driver, settable.storage)]).toEqual([0, 2]);
  });

  it("is reported as failed when the flush fails", () => {
    const { driver, storage } = setUp();
    driver.pci.deviceConfig(32, 1, 0);
    storage.holds = true;
    const status = driver.submit(blk.VIRTIO_BLK_T_OUT, 0, [from(DATA, 512)]);
    driver.pci.kick(0);
    storage.pending.shift()?.();
    storage.errno = 5;
    expect(driver.status(status)).toBe(NO_STATUS);
    storage.release();
    expect(driver.status(status)).toBe(IOERR);
  });

  it("returns to writeback at reset", () => {
    const { driver } = setUp();
    driver.pci.deviceConfig(32, 1, 0);
    driver.pci.status = 0;
    expect(driver.pci.deviceConfig(32, 1)).toBe(1);
  });
});

describe("requests in any split", () => {
  it("finds header, data and status wherever the driver cut them", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 12 }),
        (readCuts, writeCuts) => {
          const { memory, storage, driver } = setUp();
          /** Cuts `[address, address + total)` into the lengths given, each piece copied apart from the others. */
          const cut = (address: number, total: number, cuts: readonly number[], target: number, writable: boolean) => {
            const pieces: { address: number; lengthBytes: number; writable: boolean }[] = [];
            let done = 0;
            for (const length of [...cuts, total]) {
              const part = Math.min(length, total - done);
              if (part === 0) break;
              const at = target + done + pieces.length * 3;
              if (!writable) memory.write(gpa(at), memory.view(gpa(address + done), part).slice());
              pieces.push({ address: at, lengthBytes: part, writable });
              done += part;
            }
            return pieces;
          };
          const flat = 0x30000;
          memory.write(gpa(flat), new Uint8Array(Uint32Array.of(blk.VIRTIO_BLK_T_OUT, 0, 7, 0).buffer));
          memory.write(
            gpa(flat + 16),
            Uint8Array.from({ length: 1024 }, (_, i) => i % 253),
          );
          const status = 0x3f000;
          memory.writeU8(gpa(status), NO_STATUS);
          driver.ring().add([...cut(flat, 16 + 1024, readCuts, 0x32000, false), into(status, 1)]);
          driver.pci.kick(0);
          expect(memory.readU8(gpa(status))).toBe(OK);
          expect(storage.bytes.slice(7 * 512, 9 * 512)).toEqual(Uint8Array.from({ length: 1024 }, (_, i) => i % 253));
          driver.ring().takeUsed();

          const pieces = cut(0, 1024 + 1, writeCuts, 0x34000, true);
          driver.ring().add([from(driver.header(blk.VIRTIO_BLK_T_IN, 7), 16), ...pieces]);
          driver.pci.kick(0);
          expect(driver.ring().takeUsed()).toMatchObject([{ writtenBytes: 1025 }]);
          const got = pieces.flatMap(({ address, lengthBytes }) => [...memory.view(gpa(address), lengthBytes)]);
          expect(got).toEqual([...Array.from({ length: 1024 }, (_, i) => i % 253), OK]);
        },
      ),
      { numRuns: 100 },
    );
  });
});

// Numbers as in the list of what a hostile guest tries.
describe("a hostile driver of a disk", () => {
  const LAST = SECTORS - 1;

  it.each([
    ["39: beyond the end", blk.VIRTIO_BLK_T_IN, SECTORS, into(DATA, 512)],
    ["39: across the end", blk.VIRTIO_BLK_T_IN, LAST, into(DATA, 1024)],
    ["39: across the end", blk.VIRTIO_BLK_T_OUT, LAST, from(DATA, 1024)],
    ["39: at the largest sector", blk.VIRTIO_BLK_T_OUT, 2 ** 64 - 2048, from(DATA, 512)],
    ["39: where sector times 512 wraps", blk.VIRTIO_BLK_T_OUT, 2 ** 55, from(DATA, 512)],
    ["39: where sector plus length wraps", blk.VIRTIO_BLK_T_IN, 2 ** 64 - 4096, into(DATA, 4096)],
    ["parts of sectors", blk.VIRTIO_BLK_T_IN, 0, into(DATA, 511)],
    ["parts of sectors", blk.VIRTIO_BLK_T_OUT, 0, from(DATA, 513)],
    ["13: a read into readable memory", blk.VIRTIO_BLK_T_IN, 0, from(DATA, 512)],
    ["13: a write from writable memory", blk.VIRTIO_BLK_T_OUT, 0, into(DATA, 512)],
    ["13: a discard from writable memory", blk.VIRTIO_BLK_T_DISCARD, 0, into(DATA, 16)],
    ["42: a short GET_ID", blk.VIRTIO_BLK_T_GET_ID, 0, into(DATA, 19)],
  ])("%s is an I/O error (type %d, sector %d)", (_name, type, sector, data) => {
    const { driver, storage } = setUp();
    expect(driver.run(type, sector, [data])).toEqual({ status: IOERR, used: [{ head: 0, writtenBytes: 1 }] });
    expect(storage.log).toEqual([]);
    expect(driver.run(blk.VIRTIO_BLK_T_IN, LAST, [into(DATA, 512)]).status).toBe(OK);
  });

  it.each([
    ["40: beyond the end", 0, { sector: SECTORS, sectors: 1 }, IOERR],
    ["40: where sector times 512 wraps", 0, { sector: 2 ** 55, sectors: 1 }, IOERR],
    ["40: where sector plus count wraps", 0, { sector: 2 ** 64 - 2048, sectors: 0xffffffff }, IOERR],
    ["40: more sectors than the limit", 0, { sector: 0, sectors: 2 ** 21 + 1 }, IOERR],
    ["40: an unknown flag", 2, { sector: 0, sectors: 1 }, UNSUPP],
    ["40: all flags", 0xffffffff, { sector: 0, sectors: 1 }, UNSUPP],
  ])("%s", (_name, flags, { sector, sectors }, expected) => {
    const { driver, storage } = setUp();
    for (const type of [blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_T_WRITE_ZEROES])
      expect(driver.run(type, 0, [driver.range(sector, sectors, flags)]).status).toBe(expected);
    expect(storage.log).toEqual([]);
  });

  it("40: ranges of a large disk up to the limit, and not beyond", () => {
    const { driver, storage } = setUp({ sizeBytes: 2 ** 42 });
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(2 ** 32, 2 ** 21)]).status).toBe(OK);
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(2 ** 32, 2 ** 21 + 1)]).status).toBe(IOERR);
    expect(storage.log).toEqual([`discard ${2 ** 41}+${2 ** 30}`]);
  });

  it("40: unmap is no flag of a discard", () => {
    const { driver } = setUp();
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(0, 1, 1)]).status).toBe(UNSUPP);
  });

  it.each([0, 15, 17, 32, 4096])("40: ranges of %d bytes", (lengthBytes) => {
    const { driver } = setUp();
    driver.range(0, 1);
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [from(DATA, lengthBytes)]).status).toBe(IOERR);
  });

  it("41: changes to a read-only disk, whether or not the driver took the bit", () => {
    const { driver, storage } = setUp({ readOnly: true, without: [blk.VIRTIO_BLK_F_RO] });
    expect(driver.run(blk.VIRTIO_BLK_T_OUT, 0, [from(DATA, 512)]).status).toBe(IOERR);
    expect(driver.run(blk.VIRTIO_BLK_T_DISCARD, 0, [driver.range(0, 1)]).status).toBe(IOERR);
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(0, 1)]).status).toBe(IOERR);
    expect(driver.run(blk.VIRTIO_BLK_T_FLUSH, 0).status).toBe(OK);
    expect(storage.log).toEqual(["flush"]);
  });

  it.each([2, 3, 5, 10, 14, 0x80000000, 0xffffffff])("43: request type %d is not supported", (type) => {
    const { driver } = setUp();
    expect(driver.run(type, 0, [from(DATA, 512)]).status).toBe(UNSUPP);
    expect(driver.run(type, 0, [into(DATA, 512)]).status).toBe(UNSUPP);
  });

  it.each([0, 1, 15])("15: a header of %d bytes is an I/O error", (lengthBytes) => {
    const { driver } = setUp();
    const header = driver.header(blk.VIRTIO_BLK_T_FLUSH, 0);
    driver.ring().add([from(header, lengthBytes), into(DATA, 1)]);
    driver.pci.kick(0);
    expect(driver.status(DATA)).toBe(IOERR);
    expect(driver.pci.status).toBe(0x0f);
  });

  it("15: a request without a status fails the device, which works again after a reset", async () => {
    const { driver, device } = setUp();
    driver.ring().add([from(driver.header(blk.VIRTIO_BLK_T_FLUSH, 0), 16)]);
    driver.pci.kick(0);
    expect(driver.pci.status).toBe(0x4f);
    expect(driver.pci.faults[0]).toBeInstanceOf(VirtqueueError);
    driver.pci.status = 0;
    expect([driver.pci.status, device.inFlightCount]).toEqual([0, 0]);
    driver.rings = driver.pci.start();
    expect(driver.run(blk.VIRTIO_BLK_T_IN, 0, [into(DATA, 512)]).status).toBe(OK);
  });

  it("15: a storm of requests without a status costs no memory", () => {
    const { driver, device } = setUp();
    for (let i = 0; i < 50; i++) {
      driver.run(blk.VIRTIO_BLK_T_FLUSH, 0);
      driver.ring().add([from(driver.header(blk.VIRTIO_BLK_T_FLUSH, 0), 16)]);
      driver.pci.kick(0);
      expect(driver.pci.status).toBe(0x4f);
      driver.pci.status = 0;
      driver.rings = driver.pci.start();
    }
    expect(device.requestCount).toBe(1);
  });

  it("5: the same head again while its request is with the storage fails the device", () => {
    const { driver, storage } = setUp();
    storage.holds = true;
    driver.submit(blk.VIRTIO_BLK_T_IN, 0, [into(DATA, 512)]);
    driver.ring().makeAvailable(0);
    driver.pci.kick(0);
    expect(driver.pci.status).toBe(0x4f);
    storage.release();
    expect(driver.ring().takeUsed()).toEqual([]);
  });

  it("21: a header that changes while the request is under way changes nothing", () => {
    const { driver, storage, memory } = setUp();
    storage.holds = true;
    const status = driver.submit(blk.VIRTIO_BLK_T_IN, 5, [into(DATA, 512)]);
    driver.pci.kick(0);
    for (let address = 0x20000; address < 0x20400; address += 4) memory.writeU32(gpa(address), 0xffffffff);
    storage.release();
    expect([driver.status(status), memory.readU8(gpa(DATA))]).toEqual([OK, 5]);
  });

  it("24: data that lies over the rings spoils the driver's own queue at most", () => {
    const { driver } = setUp();
    for (let sector = 0; sector < 8; sector++) {
      try {
        driver.submit(blk.VIRTIO_BLK_T_IN, sector, [into(0x1000, 4096)]);
      } catch {
        break;
      }
      driver.pci.kick(0);
    }
    expect([0x0f, 0x4f]).toContain(driver.pci.status);
  });

  it("33: reset with requests under way waits for them, and lets nothing of them through", async () => {
    const { driver, storage, device, memory } = setUp();
    storage.holds = true;
    const status = driver.submit(blk.VIRTIO_BLK_T_IN, 5, [into(DATA, 512)]);
    driver.pci.kick(0);
    driver.pci.status = 0;
    expect([driver.pci.status, device.inFlightCount]).toEqual([0x0f, 1]);
    storage.release();
    await turn();
    expect([driver.pci.status, device.inFlightCount, driver.status(status)]).toEqual([0, 0, NO_STATUS]);
    expect([driver.ring().takeUsed(), driver.pci.interrupts]).toEqual([[], []]);
    driver.rings = driver.pci.start();
    storage.holds = false;
    memory.fill(gpa(DATA), 512, 0);
    expect(driver.run(blk.VIRTIO_BLK_T_IN, 5, [into(DATA, 512)]).status).toBe(OK);
  });

  it("a request that fails in the storage is an I/O error, and is reported with its reason", () => {
    const { driver, storage, errors } = setUp();
    storage.errno = ENOSPC;
    expect(driver.run(blk.VIRTIO_BLK_T_OUT, 0, [from(DATA, 512)]).status).toBe(IOERR);
    expect(driver.run(blk.VIRTIO_BLK_T_IN, 0, [into(DATA, 512)])).toMatchObject({
      status: IOERR,
      used: [{ writtenBytes: 1 }],
    });
    storage.errno = 95;
    expect(driver.run(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(0, 1)]).status).toBe(UNSUPP);
    expect(errors).toEqual([ENOSPC, ENOSPC, 95]);
  });

  it("survives garbage requests of any shape", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            type: fc.oneof(fc.constantFrom(0, 1, 4, 8, 11, 13), fc.nat(0xffffffff)),
            sector: fc.oneof(fc.nat(2 * SECTORS), fc.double({ min: 0, max: 2 ** 63, noNaN: true }).map(Math.floor)),
            shape: fc.array(fc.tuple(fc.nat(0x4ffff), fc.nat(2000), fc.boolean()), { maxLength: 6 }),
            withHeader: fc.boolean(),
          }),
          { maxLength: 20 },
        ),
        (requests) => {
          const { driver, storage } = setUp();
          for (const { type, sector, shape, withHeader } of requests) {
            const header = withHeader ? [from(driver.header(type, sector), 16)] : [];
            const data = shape.map(([address, lengthBytes, writable]) => ({ address, lengthBytes, writable }));
            if (header.length + data.length === 0 || driver.ring().freeDescriptors < 8) continue;
            driver.ring().add([...header, ...data.sort((a, b) => Number(a.writable) - Number(b.writable))]);
            driver.pci.kick(0);
            if (driver.pci.status !== 0x0f) {
              expect(driver.pci.status).toBe(0x4f);
              expect(driver.pci.faults.every((fault) => fault instanceof VirtqueueError)).toBe(true);
              driver.pci.status = 0;
              driver.rings = driver.pci.start();
              driver.pci.faults.length = 0;
            } else driver.ring().takeUsed();
          }
          for (const entry of storage.log) {
            const [, offset = "0", length = "0"] = /(\d+)\+(\d+)$/.exec(entry) ?? [];
            expect(Number(offset) + Number(length)).toBeLessThanOrEqual(SECTORS * 512);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("virtio-blk on a file", () => {
  it("moves data between the file and guest memory", async () => {
    const directory = mkdtempSync(join(tmpdir(), "virtio-blk-"));
    try {
      const path = join(directory, "disk.img");
      writeFileSync(
        path,
        Uint8Array.from({ length: 1 << 20 }, (_, i) => (i >>> 9) & 0xff),
      );
      using mapping = Mapping.anonymous(0x50000);
      const memory = testMemory(0x40000, 0x10000, mapping);
      const storage = await openRawDisk("data", path, new IoPool(), { readOnly: false });
      const device = new BlockDevice({ name: "data", storage, queues: 1 });
      const driver = new BlockDriver(device, memory);
      const finished = async (status: number) => {
        driver.pci.kick(0);
        for (let i = 0; i < 10000 && driver.status(status) === NO_STATUS; i++) await turn();
        return driver.status(status);
      };
      expect(await finished(driver.submit(blk.VIRTIO_BLK_T_IN, 3, [into(DATA, 512), into(0x50000, 512)]))).toBe(OK);
      expect([memory.readU8(gpa(DATA)), memory.readU8(gpa(0x50000))]).toEqual([3, 4]);
      memory.fill(gpa(DATA), 4096, 0x77);
      expect(await finished(driver.submit(blk.VIRTIO_BLK_T_OUT, 8, [from(DATA, 4096)]))).toBe(OK);
      expect(await finished(driver.submit(blk.VIRTIO_BLK_T_FLUSH, 0))).toBe(OK);
      expect(await finished(driver.submit(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, [driver.range(9, 1)]))).toBe(OK);
      await storage.close();
      const file = readFileSync(path);
      expect([file[8 * 512], file[9 * 512], file[10 * 512], file[16 * 512]]).toEqual([0x77, 0, 0x77, 16]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
