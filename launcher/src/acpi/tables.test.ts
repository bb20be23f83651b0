import { describe, expect, it } from "@jest/globals";
import { makeMemory } from "../boot/x86/testing.ts";
import { gpa } from "../memory/gpa.ts";
import { buildDsdt } from "./dsdt.ts";
import { buildFadt } from "./fadt.ts";
import { buildMadt } from "./madt.ts";
import { buildMcfg } from "./mcfg.ts";
import { buildAcpiTables } from "./tables.ts";
import { disassemble } from "./testing.ts";

const HEADER_BYTES = 36;
const DSDT = gpa(0xe_0040);
const WINDOW64 = { start: 0x1_4000_0000, sizeBytes: 0x1000_0000 };

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const squeeze = (text: string) => text.replace(/\s+/g, " ");

describe("each ACPI table", () => {
  it.each([
    ["FADT", buildFadt(DSDT)],
    ["MADT of 1 CPU", buildMadt(1)],
    ["MADT of 64 CPUs", buildMadt(64)],
    ["MADT of 300 CPUs", buildMadt(300)],
    ["MCFG", buildMcfg()],
    ["DSDT", buildDsdt(WINDOW64)],
  ])("%s comes back from iasl as it was", (_name, table) => {
    expect(sum(table)).toBe(0);
    const { recompiled } = disassemble(table);
    expect(Buffer.from(recompiled.subarray(HEADER_BYTES))).toEqual(Buffer.from(table.subarray(HEADER_BYTES)));
  });
});

describe("the FADT", () => {
  const { source } = disassemble(buildFadt(DSDT));

  it.each([
    ["Hardware Reduced (V5) : 1"],
    ["Reset Register Supported (V2) : 1"],
    ["Legacy Devices Supported (V2) : 0"],
    ["8042 Present on ports 60/64 (V2) : 0"],
    ["VGA Not Present (V4) : 1"],
    ["CMOS RTC Not Present (V5) : 1"],
    ["MSI Not Supported (V4) : 0"],
    ["Control Method Power Button (V1) : 1"],
    ["FADT Minor Revision : 05"],
    ["DSDT Address : 00000000000E0040"],
  ])("says %s", (line) => {
    expect(squeeze(source)).toContain(line);
  });

  it.each([
    ["Reset Register", "0000000000000600"],
    ["Sleep Control Register", "0000000000000601"],
    ["Sleep Status Register", "0000000000000602"],
  ])("has the %s in a byte port", (register, address) => {
    const field = new RegExp(`${register} : .*?Space ID : (\\w+).*?Bit Width : (\\w+).*?Address : (\\w+)`);
    expect(field.exec(squeeze(source))?.slice(1)).toEqual(["01", "08", address]);
  });
});

describe("the MADT", () => {
  it("lists the IOAPIC and each processor with its APIC identifier", () => {
    const source = squeeze(disassemble(buildMadt(3)).source);
    expect(source.match(/\[Processor Local APIC\]/g)).toHaveLength(3);
    expect(source.match(/Local Apic ID : \w+/g)).toEqual(["00", "01", "02"].map((id) => `Local Apic ID : ${id}`));
    expect(source).toMatch(/\[I\/O APIC\].*?Address : FEC00000 .*?Interrupt : 00000000/);
    expect(source).toMatch(/\[Local APIC NMI\].*?Processor ID : FF .*?Interrupt Input LINT : 01/);
    expect(source).toContain("Local Apic Address : FEE00000");
    expect(source).toContain("PC-AT Compatibility : 0");
  });

  it("uses x2APIC entries for what does not fit in 8 bits", () => {
    const source = squeeze(disassemble(buildMadt(257)).source);
    expect(source.match(/\[Processor Local APIC\]/g)).toHaveLength(255);
    expect(source.match(/Processor x2Apic ID : \w+/g)).toEqual([
      "Processor x2Apic ID : 000000FF",
      "Processor x2Apic ID : 00000100",
    ]);
  });
});

describe("the DSDT", () => {
  const source = squeeze(disassemble(buildDsdt(WINDOW64)).source);

  it.each([
    ["the windows of the PCI root", /PNP0A08.*0xC0000000, .*?0xDFFFFFFF, .*0x0000000140000000, .*?0x000000014FFFFFFF,/],
    ["the serial port with its interrupt", /PNP0501.*0x03F8, .*?0x08, .*?Edge, ActiveHigh, Exclusive.*?0x00000004,/],
    ["a reservation for ECAM", /PNP0C02.*0xE0000000, .*?0x00100000,/],
    ["the power button that the event device notifies", /Notify \(PWRB, 0x80\)/],
    ["what the event device does when slots change", /If \(\(Local0 & 0x02\)\) \{ \\_SB\.PCI0\.PCNT \(\) \}/],
    [
      "the registers of PCI hot-plug",
      /SystemIO, 0x0610, 0x0C\) Field \(PHPR, DWordAcc, NoLock, Preserve\) \{ PCIU, 32, PCID, 32, B0EJ, 32 \}/,
    ],
    [
      "a first slot",
      /Device \(S001\) \{ Name \(_ADR, 0x00010000\) .*?Name \(_SUN, One\) .*?_EJ0, 1, Serialized\) .*?\{ B0EJ = 0x02 \}/,
    ],
    ["a last slot", /Device \(S01F\) \{ Name \(_ADR, 0x001F0000\) .*?Name \(_SUN, 0x1F\) .*?\{ B0EJ = 0x80000000 \}/],
    [
      "a notification for each slot",
      /DVNT, 2, .*If \(\(Arg0 & 0x02\)\) \{ Notify \(S001, Arg1\) \} .*If \(\(Arg0 & 0x80000000\)\) \{ Notify \(S01F, Arg1\) \}/,
    ],
    ["device checks, then eject requests", /PCNT, 0, Serialized\) \{ DVNT \(PCIU, One\) DVNT \(PCID, 0x03\) \}/],
    ["the event device with its interrupt", /ACPI0013.*Level, ActiveHigh, Exclusive.*?0x00000005,/],
    ["a whole package for power-off", /Name \(\\_S5, Package \(0x04\) .*? 0x05, 0x05, Zero, Zero \}\)/],
    ["the panic device", /QEMU0001.*0x0505, .*?0x01, .*?0x01,/],
  ])("has %s", (_what, pattern) => {
    expect(source).toMatch(pattern);
  });
});

describe("the slots in the DSDT", () => {
  it("are all but the host bridge's", () => {
    const source = squeeze(disassemble(buildDsdt(WINDOW64)).source);
    expect(source.match(/Device \(S0/g)).toHaveLength(31);
    expect(source.match(/Notify \(S0/g)).toHaveLength(31);
  });
});

describe("the ACPI tables in guest memory", () => {
  it.each([1, 64])("can be followed from the RSDP, for %i CPUs", (cpuCount) => {
    const memory = makeMemory();
    const rsdp = buildAcpiTables({ memory, cpuCount });
    expect(rsdp).toBe(0xe_0000);
    expect(sum(memory.view(rsdp, 20))).toBe(0);
    expect(sum(memory.view(rsdp, 36))).toBe(0);
    const text = (address: number, length: number) => Buffer.from(memory.view(gpa(address), length)).toString("latin1");
    expect(text(rsdp, 8)).toBe("RSD PTR ");

    const tableAt = (address: number) => memory.view(gpa(address), memory.readU32(gpa(address + 4)));
    const xsdt = memory.readU32(gpa(rsdp + 24));
    const pointers = Array.from({ length: (tableAt(xsdt).length - 36) / 8 }, (_, index) =>
      memory.readU32(gpa(xsdt + 36 + index * 8)),
    );
    expect(pointers.map((pointer) => text(pointer, 4))).toEqual(["FACP", "APIC", "MCFG"]);
    const dsdt = memory.readU32(gpa((pointers[0] ?? 0) + 140));
    expect(text(dsdt, 4)).toBe("DSDT");

    const all = [xsdt, dsdt, ...pointers];
    for (const table of all) expect(sum(tableAt(table))).toBe(0);
    const ranges = all.map((start) => [start, start + tableAt(start).length] as const).sort((a, b) => a[0] - b[0]);
    let free = rsdp + 36;
    for (const [start, end] of ranges) {
      expect(start).toBeGreaterThanOrEqual(free);
      free = end;
    }
    expect(free).toBeLessThanOrEqual(0x10_0000);
  });
});
