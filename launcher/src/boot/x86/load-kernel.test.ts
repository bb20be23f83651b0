import { describe, expect, it } from "@jest/globals";
import { gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { BootImageError, type BootImageErrorCode } from "../boot-image-error.ts";
import { bytesSource } from "../file-source.ts";
import { COMMAND_LINE, GDT, PML4, PVH_START_INFO, ZERO_PAGE } from "./layout.ts";
import { type KernelRequest, loadKernel } from "./load-kernel.ts";
import {
  type BzImageFixture,
  type ElfFixture,
  MIB,
  makeBzImage,
  makeElf,
  makeMemory,
  makeNote,
  makePvhNote,
} from "./testing.ts";

const RSDP = gpa(0xe_0000);

function load(kernel: Uint8Array, changes: Partial<KernelRequest> = {}) {
  const memory = changes.memory ?? makeMemory();
  const request = { kernel: bytesSource("vmlinuz", kernel), commandLine: "quiet", memory, rsdp: RSDP, ...changes };
  return loadKernel(request);
}

async function failure(kernel: Uint8Array, changes: Partial<KernelRequest> = {}): Promise<BootImageError> {
  try {
    await load(kernel, changes);
  } catch (error) {
    if (error instanceof BootImageError) return error;
    throw error;
  }
  throw new Error("it was loaded");
}

const readU64 = (memory: GuestMemory, address: number) =>
  memory.readU32(gpa(address)) + memory.readU32(gpa(address + 4)) * 2 ** 32;

const readText = (memory: GuestMemory, address: number, length: number) =>
  new TextDecoder().decode(memory.view(gpa(address), length));

describe("loading a bzImage", () => {
  it("enters its 64-bit entry point with the zero page in rsi", async () => {
    expect(await load(makeBzImage())).toEqual({
      protocol: "linux64",
      rip: 16 * MIB + 0x200,
      rsi: ZERO_PAGE,
      rsp: 0x8ff0,
      cr3: PML4,
      gdt: { base: GDT, limit: 39 },
      idt: { base: 0x540, limit: 0 },
    });
  });

  it.each([0, 1, 27])("leaves out the real-mode part of %i sectors", async (setupSects) => {
    const memory = makeMemory();
    const payload = new Uint8Array(0x1000).fill(0x42);
    await load(makeBzImage({ setupSects, payload }), { memory });
    expect(memory.view(gpa(16 * MIB), payload.length)).toEqual(payload);
    expect(memory.readU8(gpa(16 * MIB + payload.length))).toBe(0);
  });

  it("leaves out what follows the kernel, such as a signature", async () => {
    const memory = makeMemory();
    const signed = new Uint8Array([...makeBzImage(), ...new Uint8Array(64).fill(0xff)]);
    await load(signed, { memory });
    expect(memory.readU8(gpa(16 * MIB + 0x1000))).toBe(0);
  });

  it("moves a relocatable kernel down where memory ends before its preferred address", async () => {
    const entry = await load(makeBzImage(), { memory: makeMemory(16 * MIB) });
    expect(entry.rip).toBe(2 * MIB + 0x200);
  });

  it("fills the zero page", async () => {
    const memory = makeMemory();
    const initrd = bytesSource("initrd.img", new TextEncoder().encode("initrd bytes"));
    await load(makeBzImage(), { memory, initrd });
    expect(readText(memory, ZERO_PAGE + 0x202, 4)).toBe("HdrS");
    expect(memory.readU16(gpa(ZERO_PAGE + 0x206))).toBe(0x20f);
    expect(memory.readU8(gpa(ZERO_PAGE + 0x210))).toBe(0xff);
    expect(memory.readU32(gpa(ZERO_PAGE + 0x228))).toBe(COMMAND_LINE);
    expect(readText(memory, COMMAND_LINE, 6)).toBe("quiet\0");
    expect(readU64(memory, ZERO_PAGE + 0x70)).toBe(RSDP);
    const initrdStart = memory.readU32(gpa(ZERO_PAGE + 0x218));
    expect(initrdStart).toBe(32 * MIB - 4096);
    expect(memory.readU32(gpa(ZERO_PAGE + 0x21c))).toBe(12);
    expect(readText(memory, initrdStart, 12)).toBe("initrd bytes");
    expect(memory.readU8(gpa(ZERO_PAGE + 0x1e8))).toBe(4);
    expect(readU64(memory, ZERO_PAGE + 0x2d0 + 2 * 20)).toBe(MIB);
    expect(readU64(memory, ZERO_PAGE + 0x2d0 + 2 * 20 + 8)).toBe(31 * MIB);
    expect(memory.readU8(gpa(ZERO_PAGE + 0x1ef))).toBe(0);
  });

  it("clears what a run before left in the zero page", async () => {
    const memory = makeMemory();
    memory.fill(ZERO_PAGE, 4096, 0xee);
    await load(makeBzImage(), { memory });
    expect(memory.readU32(gpa(ZERO_PAGE + 0xc0))).toBe(0);
    expect(memory.readU32(gpa(ZERO_PAGE + 0x218))).toBe(0);
  });

  it("maps the first 4 GiB one to one", async () => {
    const memory = makeMemory();
    await load(makeBzImage(), { memory });
    for (const address of [0, 2 * MIB, 0x4000_0000, 0xffe0_0000]) {
      const pdpt = readU64(memory, PML4) - 3;
      const directory = readU64(memory, pdpt + Math.floor(address / 2 ** 30) * 8) - 3;
      const page = readU64(memory, directory + ((address / (2 * MIB)) % 512) * 8);
      expect(page - 0xe3).toBe(address);
    }
  });

  it("keeps the initrd below the address that the kernel names", async () => {
    const memory = makeMemory(64 * MIB);
    const initrd = bytesSource("initrd.img", new Uint8Array(5000));
    await load(makeBzImage({ initrdAddrMax: 24 * MIB - 1 }), { memory, initrd });
    expect(memory.readU32(gpa(ZERO_PAGE + 0x218))).toBe(24 * MIB - 8192);
  });

  it.each<{ name: string; fixture: BzImageFixture; code: BootImageErrorCode; says: RegExp }>([
    {
      name: "an old protocol",
      fixture: { version: 0x20b },
      code: "unsupported",
      says: /version 2\.11 .* 2\.12 is needed/,
    },
    { name: "a zImage", fixture: { loadFlags: 0 }, code: "unsupported", says: /zImage/ },
    { name: "a 32-bit kernel", fixture: { xloadFlags: 0 }, code: "unsupported", says: /32-bit kernel/ },
    { name: "no code", fixture: { payload: new Uint8Array(0) }, code: "malformed", says: /0 bytes of kernel code/ },
    { name: "an odd alignment", fixture: { alignment: 3 * MIB }, code: "malformed", says: /alignment of 3145728/ },
    { name: "an alignment of 2 GiB", fixture: { alignment: 2 ** 31 }, code: "malformed", says: /alignment/ },
    { name: "a huge init_size", fixture: { initSize: 0xffff_ffff }, code: "kernel-too-large", says: /needs 4098 MiB/ },
    {
      name: "a fixed address in the boot structures",
      fixture: { relocatable: 0, prefAddress: 0x1000n },
      code: "malformed",
      says: /load address of 0x1000/,
    },
    {
      name: "a fixed address beyond all memory",
      fixture: { relocatable: 0, prefAddress: 2n ** 63n },
      code: "kernel-too-large",
      says: /Give the machine more memory/,
    },
  ])("refuses $name", async ({ fixture, code, says }) => {
    const error = await failure(makeBzImage(fixture));
    expect(error.message).toMatch(says);
    expect([error.code, error.file]).toEqual([code, "vmlinuz"]);
  });

  it("says how much of a truncated one is there", async () => {
    const whole = makeBzImage();
    for (const length of [0x210, whole.length - 1]) {
      const error = await failure(whole.subarray(0, length));
      expect(error.code).toBe("truncated");
      expect(error.message).toContain(`cut off: ${length} of at least`);
    }
  });

  it("says so when the file shrinks while it is read", async () => {
    const bytes = makeBzImage();
    const kernel = { ...bytesSource("vmlinuz", bytes.subarray(0, 2048)), sizeBytes: bytes.length };
    expect((await failure(bytes, { kernel })).code).toBe("truncated");
  });

  it("names the reason when reading fails", async () => {
    const kernel = {
      name: "vmlinuz",
      sizeBytes: 4096,
      read: () => Promise.reject(new Error("EIO: i/o error, read")),
    };
    const error = await failure(makeBzImage(), { kernel });
    expect([error.code, error.message]).toEqual(["unreadable", expect.stringContaining("EIO: i/o error")]);
  });
});

describe("loading an ELF kernel", () => {
  const code = Uint8Array.from({ length: 64 }, (_, i) => i);
  const loadable = { address: 2 * MIB, bytes: code };
  const pvhNote = { type: 4, bytes: new Uint8Array([...makeNote("GNU\0", 3, code), ...makePvhNote(2 * MIB + 8)]) };

  it("enters at e_entry in 64-bit mode without a PVH note", async () => {
    const memory = makeMemory();
    const entry = await load(makeElf({ entry: 2 * MIB + 4, segments: [loadable] }), { memory });
    expect(entry).toMatchObject({ protocol: "linux64", rip: 2 * MIB + 4, rsi: ZERO_PAGE });
    expect(memory.view(gpa(2 * MIB), code.length)).toEqual(code);
    expect(readText(memory, ZERO_PAGE + 0x202, 4)).toBe("HdrS");
  });

  it.each([
    ["a 32-bit kernel", { bits: 32 }],
    ["a 64-bit kernel", { bits: 64 }],
    ["EDK2, 64-bit for the 386", { bits: 64, machine: 3 }],
  ] as const)("enters %s by its PVH note with the start info in rbx", async (_what, kind) => {
    const memory = makeMemory();
    const initrd = bytesSource("initrd.img", new Uint8Array(100));
    const entry = await load(makeElf({ ...kind, entry: 2 * MIB, segments: [loadable, pvhNote] }), { memory, initrd });
    expect(entry).toMatchObject({ protocol: "pvh", rip: 2 * MIB + 8, rbx: PVH_START_INFO });
    const info = PVH_START_INFO;
    expect(memory.readU32(info)).toBe(0x336ec578);
    expect(memory.readU32(gpa(info + 4))).toBe(1);
    expect(memory.readU32(gpa(info + 12))).toBe(1);
    const module = readU64(memory, info + 16);
    expect([readU64(memory, module), readU64(memory, module + 8)]).toEqual([32 * MIB - 4096, 100]);
    expect(readText(memory, readU64(memory, info + 24), 6)).toBe("quiet\0");
    expect(readU64(memory, info + 32)).toBe(RSDP);
    const map = readU64(memory, info + 40);
    expect(memory.readU32(gpa(info + 48))).toBe(4);
    expect([readU64(memory, map + 48), memory.readU32(gpa(map + 64))]).toEqual([MIB, 1]);
  });

  it("clears what a segment has beyond the file, and nothing more", async () => {
    const memory = makeMemory();
    memory.fill(gpa(2 * MIB), 12 * MIB, 0xee);
    await load(makeElf({ entry: 2 * MIB, segments: [{ ...loadable, memoryBytes: 9 * MIB }] }), { memory });
    expect(memory.view(gpa(2 * MIB + 64), 9 * MIB - 64).every((byte) => byte === 0)).toBe(true);
    expect(memory.readU8(gpa(11 * MIB))).toBe(0xee);
  });

  it.each<{ name: string; fixture: ElfFixture; code: BootImageErrorCode; says: RegExp }>([
    { name: "64-bit Arm", fixture: { machine: 183 }, code: "wrong-machine", says: /for 64-bit Arm/ },
    { name: "32-bit x86 in a 64-bit file", fixture: { machine: 3 }, code: "unsupported", says: /no PVH entry/ },
    { name: "a machine without a name here", fixture: { machine: 999 }, code: "wrong-machine", says: /machine 999/ },
    { name: "a kernel module", fixture: { type: 1 }, code: "not-a-kernel", says: /kernel module/ },
    {
      name: "an ordinary program",
      fixture: { segments: [loadable, { type: 3, bytes: code }] },
      code: "not-a-kernel",
      says: /needs a dynamic linker/,
    },
    { name: "32 bits without a PVH note", fixture: { bits: 32 }, code: "unsupported", says: /no PVH entry point/ },
    { name: "class 7", fixture: {}, code: "malformed", says: /class 7/ },
    {
      name: "a big-endian file",
      fixture: { encoding: 2, machine: 62 << 8, type: 2 << 8 },
      code: "malformed",
      says: /big-endian/,
    },
    { name: "no program headers", fixture: { programHeaderCount: 0 }, code: "malformed", says: /no program headers/ },
    { name: "65535 program headers", fixture: { programHeaderCount: 65535 }, code: "malformed", says: /65535/ },
    { name: "program headers of 1 byte", fixture: { programHeaderBytes: 1 }, code: "malformed", says: /of 1 bytes/ },
    {
      name: "program headers beyond the file",
      fixture: { programHeaderOffset: 2n ** 64n - 1n },
      code: "truncated",
      says: /cut off/,
    },
    { name: "nothing to load", fixture: { segments: [pvhNote] }, code: "malformed", says: /nothing to load/ },
    {
      name: "a segment below 1 MiB",
      fixture: { segments: [{ address: 0x7000, bytes: code }] },
      code: "malformed",
      says: /boot structures/,
    },
    {
      name: "segments that overlap",
      fixture: { segments: [loadable, { address: 2 * MIB + 63, bytes: code }] },
      code: "malformed",
      says: /overlaps/,
    },
    {
      name: "more bytes in the file than in memory",
      fixture: { segments: [{ ...loadable, memoryBytes: 63 }] },
      code: "malformed",
      says: /more bytes in the file/,
    },
    {
      name: "a segment cut off",
      fixture: { segments: [{ ...loadable, fileBytes: 65 }] },
      code: "truncated",
      says: /cut off/,
    },
    {
      name: "a segment that wraps around",
      fixture: { segments: [{ ...loadable, memoryBytes: 2n ** 64n - 1n }] },
      code: "kernel-too-large",
      says: /memory/,
    },
    {
      name: "a segment in the hole",
      fixture: { segments: [{ address: 0xfee0_0000, bytes: code }] },
      code: "kernel-too-large",
      says: /below 3 GiB/,
    },
    {
      name: "an entry outside",
      fixture: { entry: 3 * MIB },
      code: "malformed",
      says: /entry point \(0x300000\) outside/,
    },
    {
      name: "a PVH entry outside",
      fixture: { segments: [loadable, { type: 4, bytes: makePvhNote(0x7000) }] },
      code: "malformed",
      says: /entry point \(0x7000\) outside/,
    },
  ])("refuses $name", async ({ name, fixture, code, says }) => {
    const kernel = makeElf(fixture);
    if (name === "class 7") kernel[4] = 7;
    const error = await failure(kernel);
    expect(error.message).toMatch(says);
    expect(error.code).toBe(code);
  });

  it.each([
    ["a note longer than its segment", makeNote("Xen\0", 1, code).fill(0xff, 0, 8)],
    ["a PVH note cut off in its value", makePvhNote(2 * MIB).subarray(0, 18)],
    ["a PVH note without a value", makeNote("Xen\0", 18, new Uint8Array(0))],
    ["another name's note 18", makeNote("Nex\0", 18, Uint8Array.of(0, 0, 0x20, 0))],
  ])("ignores %s", async (_name, bytes) => {
    const entry = await load(makeElf({ entry: 2 * MIB, segments: [loadable, { type: 4, bytes }] }));
    expect(entry.protocol).toBe("linux64");
  });
});

describe("the firmware entry point", () => {
  it("resets the machine by port 0x600, since Linux reboots by jumping there", async () => {
    const memory = makeMemory();
    await load(makeBzImage(), { memory });
    // mov dx, 0x600; mov al, 6; out dx, al; hlt; jmp back to the hlt
    const code = Buffer.from(memory.view(gpa(0xf_fff0), 9)).toString("hex");
    expect(code).toBe("ba0006" + "b006" + "ee" + "f4" + "ebfd");
  });
});

describe("an initrd", () => {
  it("that does not fit is refused with its size", async () => {
    const initrd = bytesSource("initrd.img", new Uint8Array(20 * MIB));
    const error = await failure(makeBzImage(), { initrd });
    expect([error.code, error.file]).toEqual(["initrd-too-large", "initrd.img"]);
    expect(error.message).toMatch(/initrd of 20 MiB does not fit in the 15 MiB between the kernel and 32 MiB/);
  });

  it("that is empty counts as none", async () => {
    const memory = makeMemory();
    await load(makeBzImage(), { memory, initrd: bytesSource("initrd.img", new Uint8Array(0)) });
    expect(memory.readU32(gpa(ZERO_PAGE + 0x218))).toBe(0);
  });
});

describe("a command line", () => {
  it.each([
    ["longer than the kernel takes", "x".repeat(101), /101 characters, and this kernel takes 100/],
    ["with a line break", "quiet\nroot=/dev/vda", /character "\\n" at position 5/],
    ["with a zero", "quiet\0", /character "\\u0000" at position 5/],
    ["with an umlaut", "root=/dev/v\u00e4", /position 11/],
  ])("%s is refused", async (_name, commandLine, says) => {
    const error = await failure(makeBzImage({ commandLineSize: 100 }), { commandLine });
    expect(error.code).toBe("command-line");
    expect(error.message).toMatch(says);
  });

  it("may use all that the kernel takes", async () => {
    const memory = makeMemory();
    await load(makeBzImage({ commandLineSize: 100 }), { memory, commandLine: "y".repeat(100) });
    expect(readText(memory, COMMAND_LINE, 101)).toBe(`${"y".repeat(100)}\0`);
  });
});
