import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { PCI_ECAM, PCI_ECAM_BYTES, PCI_WINDOW32, PCI_WINDOW32_BYTES, pciWindow64 } from "../boot/x86/layout.ts";
import { TestBoard } from "../machine/testing/test-board.ts";
import { PciRoot } from "../pci/pci-root.ts";
import { openIoEngine } from "../storage/io-engine.ts";
import { createVirtioDevices, type VirtioDevices } from "./create-devices.ts";

const SECTOR = 512;
const SECTORS = 64;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "virtio-kvm-"));
  mkdirSync(join(directory, "image", "disk"), { recursive: true });
  const content = Uint8Array.from({ length: SECTORS * SECTOR }, (_, i) => Math.floor(i / SECTOR) + 1);
  writeFileSync(join(directory, "image", "disk", "root.img"), content);
  writeFileSync(join(directory, "data.img"), content);
});
afterEach(() => rmSync(directory, { recursive: true }));

/** The test guest with an image disk, a raw disk and an entropy device. */
class VirtioMachine implements AsyncDisposable {
  readonly board: TestBoard;
  readonly root: PciRoot;
  readonly faults: Error[] = [];
  readonly #devices: VirtioDevices;

  private constructor(board: TestBoard, devices: VirtioDevices, faults: Error[]) {
    this.board = board;
    this.#devices = devices;
    this.faults = faults;
    this.root = new PciRoot(board.mmio, [
      { start: PCI_WINDOW32, sizeBytes: PCI_WINDOW32_BYTES },
      pciWindow64(board.board.memory.regions),
    ]);
    board.mmio.add(PCI_ECAM, PCI_ECAM_BYTES, this.root.ecam);
    for (const device of devices.devices) this.root.add(device);
  }

  static async run(commands: string): Promise<VirtioMachine> {
    const board = await TestBoard.make({ commands });
    const { memory, msi, doorbells } = board.board;
    const faults: Error[] = [];
    const devices = await createVirtioDevices({
      host: { memory, msi, doorbells, onFault: (_device, error) => faults.push(error) },
      disks: [
        {
          name: "root",
          readOnly: false,
          queues: 2,
          source: { kind: "image", imageRoot: join(directory, "image"), overlayPath: join(directory, "overlay.img") },
        },
        { name: "data", readOnly: false, queues: 1, source: { kind: "raw", path: join(directory, "data.img") } },
      ],
      pool: openIoEngine().pool,
      onIoError: () => {},
    });
    const machine = new VirtioMachine(board, devices, faults);
    board.runner.run();
    return machine;
  }

  said(text: string): Promise<void> {
    return this.board.said(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.board.runner[Symbol.dispose]();
    await this.#devices.close();
    this.board[Symbol.dispose]();
  }
}

/** Eight bytes of `byte`, as the guest prints them. */
const number = (byte: number) => `0x${byte.toString(16).padStart(2, "0").repeat(8).replace(/^0/, "")}`;

describe("virtio devices under a guest", () => {
  it("are found on the bus in order", async () => {
    await using machine = await VirtioMachine.run("pci");
    await machine.said("pci done");
    expect(machine.board.output.match(/pci \d+ 1af4:\w+/g)).toEqual([
      "pci 1 1af4:1042",
      "pci 2 1af4:1042",
      "pci 3 1af4:1044",
    ]);
  });

  it("tell a disk's name and size", async () => {
    await using machine = await VirtioMachine.run("blkid 0;blkid 1;blkid 2");
    await machine.said("blkid status 0 name root sectors 64");
    await machine.said("blkid status 0 name data sectors 64");
    await machine.said("blkid status 254");
  });

  it("read and write an image's overlay and a raw disk, by doorbell and message", async () => {
    const commands = [0, 1].flatMap((disk) => [
      `blkread ${disk} 16`,
      `blkwrite ${disk} 17 0x4242424242424242`,
      `blkread ${disk} 17`,
      `blkread ${disk} 18`,
      `blkflush ${disk}`,
    ]);
    await using machine = await VirtioMachine.run(`${commands.join(";")};interrupts 0x50;echo the end`);
    await machine.said("the end");
    const reads = [...machine.board.output.matchAll(/blkread status (\d+) data (0x\w+)/g)].map(([, ...found]) => found);
    const each = [
      ["0", number(0x11)],
      ["0", number(0x42)],
      ["0", number(0x13)],
    ];
    expect(reads).toEqual([...each, ...each]);
    expect(machine.board.output.match(/blkflush status 0/g)).toHaveLength(2);
    // Ten answers, of which the guest may have seen some before their interrupt.
    expect(Number(/interrupts 0x50: (\d+)/.exec(machine.board.output)?.[1])).toBeGreaterThan(0);
    const dataFile = readFileSync(join(directory, "data.img"));
    expect([dataFile[17 * SECTOR - 1], dataFile[17 * SECTOR], dataFile[18 * SECTOR]]).toEqual([0x11, 0x42, 0x13]);
    expect(readFileSync(join(directory, "image", "disk", "root.img"))[17 * SECTOR]).toBe(0x12);
  });

  it("read a qcow2 image under its overlay, sector by sector", async () => {
    const disk = join(directory, "image", "disk");
    execFileSync("qemu-img", ["convert", "-c", "-O", "qcow2", join(disk, "root.img"), join(disk, "root.qcow2")]);
    rmSync(join(disk, "root.img"));
    const reads = [0, 17, 63].map((sector) => `blkread 0 ${sector}`).join(";");
    await using machine = await VirtioMachine.run(
      `blkid 0;${reads};blkwrite 0 17 5;blkread 0 17;blkread 0 18;echo the end`,
    );
    await machine.said("the end");
    expect(machine.board.output).toContain("name root sectors 64");
    expect([...machine.board.output.matchAll(/blkread status 0 data (0x\w+)/g)].map(([, data]) => data)).toEqual([
      number(1),
      number(18),
      number(64),
      "0x5",
      number(19),
    ]);
  });

  it("zero and discard", async () => {
    await using machine = await VirtioMachine.run(
      "blkzero 0 1 2;blkread 0 2;blkread 0 3;blkdiscard 0 8 8;blkread 0 9;echo the end",
    );
    await machine.said("the end");
    expect(machine.board.output).toContain("blkzero status 0");
    expect(machine.board.output).toContain("blkdiscard status 0");
    expect([...machine.board.output.matchAll(/blkread status 0 data (0x\w+)/g)].map(([, data]) => data)).toEqual([
      "0x0",
      number(4),
      "0x0",
    ]);
  });

  it("fail requests beyond the end and go on", async () => {
    await using machine = await VirtioMachine.run("blkread 1 64;blkread 1 0xffffffffffffffff;blkread 1 63");
    await machine.said(`blkread status 0 data ${number(64)}`);
    expect(machine.board.output.match(/blkread status 1/g)).toHaveLength(2);
  });

  it("give randomness", async () => {
    await using machine = await VirtioMachine.run("rng 4096;rng 8;echo the end");
    await machine.said("the end");
    const answers = [...machine.board.output.matchAll(/rng answered 1 bytes (\d+) data (0x\w+)/g)].map(
      ([, ...found]) => found,
    );
    expect(answers.map(([length]) => length)).toEqual(["4096", "8"]);
    expect(answers[0]?.[1]).not.toBe(answers[1]?.[1]);
  });

  it("survive garbage in rings and registers; the disk works after a reset, and so does the other", async () => {
    await using machine = await VirtioMachine.run(
      "blkgarbage 1 60;blkread 0 0;blkgarbage 1 60 7;blkread 0 1;echo the end",
    );
    await machine.said("the end");
    expect(machine.board.output.match(/blkgarbage rounds 60, the disk works/g)).toHaveLength(2);
    expect(machine.board.output).toContain(`blkread status 0 data ${number(1)}`);
    expect(machine.faults.length).toBeGreaterThan(0);
    expect(new Set(machine.faults.map(({ name }) => name))).toEqual(new Set(["VirtqueueError"]));
    expect(machine.board.events).toEqual([]);
  });

  it("start again from a reset of the bus in the middle of work", async () => {
    await using machine = await VirtioMachine.run("blkspeed 1 1000000000");
    await machine.board.until(() => machine.board.output.includes("READY"), "the guest");
    await new Promise((resolve) => setImmediate(resolve));
    await machine.board.runner.halt();
    await machine.root.reset();
    await machine.board.board.reset();
    machine.board.output = "";
    await machine.board.load();
    machine.board.runner.run();
    await machine.said("READY");
  });
});
