import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { DiskError } from "../storage/disk-error.ts";
import { until } from "../testing/until.ts";
import { UnknownDisk } from "../virtio/block/disks.ts";
import { IllegalTransition } from "./control-surface.ts";
import { TestMachine } from "./testing/test-machine.ts";

const SIZE_BYTES = 1 << 20;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "disk-hotplug-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A disk on a file that keeps what is written. */
function disk(name: string, more: Partial<DiskConfig> = {}): DiskConfig {
  const path = join(directory, name);
  writeFileSync(path, "", { flag: "a" });
  return {
    name,
    readOnly: false,
    queues: 1,
    source: { kind: "directory", path: directoryOf(name), sizeBytes: SIZE_BYTES },
    ...more,
  };
}

function directoryOf(name: string): string {
  return mkdtempSync(join(directory, `${name}-`));
}

const stateOf = ({ machine }: TestMachine, name: string) =>
  machine.status().disks?.find((each) => each.name === name)?.state;

const gone = (test: TestMachine, name: string) => until(() => stateOf(test, name) === undefined);

/** Files in the test's directory that this process has open. */
function openFiles(): readonly string[] {
  return readdirSync("/proc/self/fd")
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return "";
      }
    })
    .filter((path) => path.startsWith(directory));
}

describe("a disk that is added to a running machine", () => {
  it("is told of, found, used, and given up, and comes again with what was written", async () => {
    await using test = await TestMachine.start({ disks: [disk("root")] });
    const data = disk("data");
    test.console.text = "";
    await test.machine.deviceControls.attachDisk(data);
    // Behind disk, entropy device and console.
    await test.console.said("slots plugged 0x10\r\n");
    expect(stateOf(test, "data")).toBe("Attaching");
    await test.console.ask("blkid 1", "blkid status 0 name data sectors 2048");
    expect(stateOf(test, "data")).toBe("Attached");
    await test.console.ask("blkwrite 1 8 7", "blkwrite status 0");
    expect(test.machine.diskUse().map(({ name, operations }) => [name, operations.write.requests])).toEqual([
      ["root", 0],
      ["data", 1],
    ]);

    test.console.text = "";
    test.machine.deviceControls.detachDisk("data");
    await test.console.said("slots to give up 0x10\r\n");
    await gone(test, "data");
    expect(openFiles().filter((path) => path.includes("/data-"))).toEqual([]);
    await test.console.ask("blkid 1", "blkid status 254");

    await test.machine.deviceControls.attachDisk(data);
    await test.console.ask("blkread 1 8", "blkread status 0 data 0x7");
    await test.console.ask("blkid 0", "name root");
  });

  it("is one of many that come and go at the same time", async () => {
    await using test = await TestMachine.start();
    const disks = ["a", "b", "c"].map((name) => disk(name));
    await Promise.all(disks.map((each) => test.machine.deviceControls.attachDisk(each)));
    await test.console.ask("blkid 2", "name c");
    test.machine.deviceControls.detachDisk("b");
    await gone(test, "b");
    await test.machine.deviceControls.attachDisk(disk("d"));
    await test.console.ask("blkid 1", "name d");
    expect(test.machine.status().disks?.map(({ name }) => name)).toEqual(["a", "c", "d"]);
  });

  it("stays as it is when it is added again, and is refused when another one has its name", async () => {
    await using test = await TestMachine.start();
    const data = disk("data");
    await test.machine.deviceControls.attachDisk(data);
    await test.machine.deviceControls.attachDisk({ ...data });
    expect(test.machine.status().disks).toHaveLength(1);
    await expect(test.machine.deviceControls.attachDisk(disk("data"))).rejects.toThrow(/another disk of this name/);
  });

  it("leaves nothing behind when it cannot be had", async () => {
    await using test = await TestMachine.start();
    const missing: DiskConfig = { ...disk("data"), source: { kind: "raw", path: join(directory, "missing") } };
    await expect(test.machine.deviceControls.attachDisk(missing)).rejects.toThrow(DiskError);
    const podUid = "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11";
    const attachment: DiskConfig = { ...missing, source: { kind: "attachment", podUid } };
    await expect(test.machine.deviceControls.attachDisk(attachment)).rejects.toThrow(/needs the node agent/);
    expect(test.machine.status().disks).toEqual([]);
    expect(openFiles()).toEqual([]);
  });

  it("finds the bus full", async () => {
    await using test = await TestMachine.start();
    for (let i = 0; i < 29; i++) await test.machine.deviceControls.attachDisk(disk(`disk-${i}`));
    await expect(test.machine.deviceControls.attachDisk(disk("one-more"))).rejects.toThrow(PciSpaceError);
    expect(openFiles().filter((path) => path.includes("/one-more-"))).toEqual([]);
    await test.console.ask("blkid 28", "name disk-28");
  });

  it("comes while the guest is paused, which finds it afterwards", async () => {
    await using test = await TestMachine.start();
    await test.machine.pause();
    await test.machine.deviceControls.attachDisk(disk("data"));
    test.console.text = "";
    test.machine.resume();
    await test.console.said("slots plugged 0x8\r\n");
  });

  it("stays at a reset, as one that was there from the start", async () => {
    await using test = await TestMachine.start();
    await test.machine.deviceControls.attachDisk(disk("data"));
    test.console.text = "";
    await test.machine.reset();
    await test.console.said("READY pvh");
    expect(stateOf(test, "data")).toBe("Attached");
    await test.console.ask("blkid 0", "name data");
    expect(test.console.text).not.toContain("slots plugged");
  });

  it("is refused before the machine runs and after its end", async () => {
    await using test = await TestMachine.make();
    await expect(test.machine.deviceControls.attachDisk(disk("data"))).rejects.toThrow(IllegalTransition);
    await test.machine.stop(0);
    await expect(test.machine.deviceControls.attachDisk(disk("data"))).rejects.toThrow(IllegalTransition);
    expect(() => test.machine.deviceControls.detachDisk("data")).toThrow(IllegalTransition);
    expect(openFiles()).toEqual([]);
  });
});

describe("a disk that a machine is to give up", () => {
  it("may be one from the start", async () => {
    await using test = await TestMachine.start({ disks: [disk("root"), disk("data")] });
    test.machine.deviceControls.detachDisk("root");
    await gone(test, "root");
    await test.console.ask("blkid 0", "name data");
    expect(() => test.machine.deviceControls.detachDisk("root")).toThrow(UnknownDisk);
  });

  it("stays usable while the guest does not give it up, and is asked for again", async () => {
    await using test = await TestMachine.start({ disks: [disk("data")] });
    await test.console.ask("deaf", "deaf");
    test.console.text = "";
    test.machine.deviceControls.detachDisk("data");
    await test.console.said("slots to give up 0x2, ignored");
    expect(stateOf(test, "data")).toBe("Detaching");
    await expect(test.machine.deviceControls.attachDisk(disk("data"))).rejects.toThrow(/has not given up/);
    await test.console.ask("blkwrite 0 1 9", "blkwrite status 0");
    test.console.text = "";
    test.machine.deviceControls.detachDisk("data");
    await test.console.said("slots to give up 0x2, ignored");
    await test.console.ask("out 0x618 4 0x2", "out done");
    await gone(test, "data");
  });

  it("is gone after a reset", async () => {
    await using test = await TestMachine.start({ disks: [disk("root"), disk("data")] });
    await test.console.ask("deaf", "deaf");
    test.machine.deviceControls.detachDisk("data");
    test.console.text = "";
    await test.machine.reset();
    await test.console.said("READY pvh");
    expect(test.machine.status().disks?.map(({ name, state }) => [name, state])).toEqual([["root", "Attached"]]);
    expect(openFiles()).toHaveLength(1);
    await test.console.ask("blkid 1", "blkid status 254");
  });

  it("finishes what is under way before its storage is closed", async () => {
    await using test = await TestMachine.start({ disks: [disk("data")] });
    await test.console.ask("deaf", "deaf");
    test.machine.deviceControls.detachDisk("data");
    test.console.type("blkspeed 0 200");
    test.console.type("out 0x618 4 0xffffffff");
    await gone(test, "data");
    await test.console.ask("pci", "pci done");
    expect(test.console.text).not.toContain("1af4:1042");
    expect(openFiles()).toEqual([]);
  });

  it("does not keep the machine from its end", async () => {
    await using test = await TestMachine.start({ disks: [disk("data")] });
    await test.console.ask("deaf", "deaf");
    test.machine.deviceControls.detachDisk("data");
    await test.machine.stop(0);
    expect(openFiles()).toEqual([]);
  });
});

describe("a guest that misuses PCI hot-plug", () => {
  it("ejects nothing that it was not asked for", async () => {
    await using test = await TestMachine.start({ disks: [disk("root")] });
    for (const value of ["0xffffffff", "0x2", "0x1"]) await test.console.ask(`out 0x618 4 ${value}`, "out done");
    await test.console.ask("out 0x610 4 0xffffffff", "out done");
    expect(await test.console.ask("pci", "pci done")).toContain("1af4:1042");
    expect(await test.console.ask("in 0x610 4", "\r\n")).toBe("in 0x0\r\n");
    await test.console.ask("blkid 0", "name root");
  });

  it("ejects once, however often it writes", async () => {
    await using test = await TestMachine.start({ disks: [disk("root"), disk("data")] });
    test.machine.deviceControls.detachDisk("data");
    await gone(test, "data");
    await test.machine.deviceControls.attachDisk(disk("other"));
    await test.console.ask("outs 0x618 4 64", "outs done");
    await test.console.ask("garbage 2000", "garbage done");
    await test.console.ask("blkid 1", "name other");
  });
});
