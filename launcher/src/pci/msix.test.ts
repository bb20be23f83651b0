import { describe, expect, it } from "@jest/globals";
import { Msix } from "./msix.ts";
import { PciFunction } from "./pci-function.ts";

const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;

function setUp(vectors = 3) {
  const sent: string[] = [];
  const msix = new Msix(vectors, {
    signalMsi: (low, high, data) => sent.push(`${low.toString(16)}:${high}:${data}`),
  });
  const program = (vector: number, data: number, control = 0, low = 0xfee01000) => {
    const entry = new Uint8Array(Uint32Array.of(low, 0, data, control).buffer);
    msix.writeTable(vector * 16, entry);
  };
  const pending = () => {
    const data = new Uint8Array(msix.pendingSizeBytes);
    msix.readPending(0, data);
    return data[0];
  };
  return { msix, sent, program, pending };
}

describe("MSI-X", () => {
  it("sends the message of a vector", () => {
    const { msix, sent, program } = setUp();
    msix.setControl(ENABLE);
    program(1, 0x41);
    msix.trigger(1);
    expect(sent).toEqual(["fee01000:0:65"]);
  });

  it("starts masked and off", () => {
    const { msix, sent, pending } = setUp();
    msix.trigger(0);
    expect([sent, pending()]).toEqual([[], 0]);
    msix.setControl(ENABLE);
    msix.trigger(0);
    expect([sent, pending()]).toEqual([[], 1]);
  });

  it("keeps a masked vector pending and sends it once when the mask is lifted", () => {
    const { msix, sent, program, pending } = setUp();
    msix.setControl(ENABLE);
    program(2, 7, 1);
    msix.trigger(2);
    msix.trigger(2);
    expect([sent, pending()]).toEqual([[], 0b100]);
    msix.writeTable(2 * 16 + 12, Uint8Array.of(0));
    expect([sent, pending()]).toEqual([["fee01000:0:7"], 0]);
  });

  it("keeps all vectors pending under the function mask", () => {
    const { msix, sent, program, pending } = setUp();
    program(0, 1);
    program(1, 2);
    msix.setControl(ENABLE | FUNCTION_MASK);
    msix.trigger(0);
    msix.trigger(1);
    expect([sent.length, pending()]).toEqual([0, 0b11]);
    msix.setControl(ENABLE);
    expect([sent.length, pending()]).toEqual([2, 0]);
  });

  it("uses the address and data that are in the table when a pending vector is unmasked", () => {
    const { msix, sent, program } = setUp();
    msix.setControl(ENABLE);
    program(0, 1, 1);
    msix.trigger(0);
    program(0, 99, 0, 0xfee02000);
    expect(sent).toEqual(["fee02000:0:99"]);
  });

  it.each([1, 2, 4, 8])("takes table accesses of %d bytes", (width) => {
    const { msix } = setUp();
    const bytes = Uint8Array.from({ length: 48 }, (_, i) => i + 1);
    for (let at = 0; at < 48; at += width) msix.writeTable(at, bytes.subarray(at, at + width));
    const out = new Uint8Array(48);
    for (let at = 0; at < 48; at += width) msix.readTable(at, out.subarray(at, at + width));
    expect(out).toEqual(bytes);
  });

  it("ignores vectors and table offsets out of range", () => {
    const { msix, sent } = setUp();
    msix.setControl(ENABLE);
    msix.trigger(3);
    msix.trigger(0xffff);
    msix.writeTable(46, Uint8Array.of(1, 2, 3, 4));
    msix.writeTable(4096, Uint8Array.of(1, 2, 3, 4));
    const data = new Uint8Array(8).fill(0xee);
    msix.readTable(44, data);
    expect([...data]).toEqual([1, 0, 1, 2, 0, 0, 0, 0]);
    msix.readPending(4096, data);
    expect([...data]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(sent).toEqual([]);
  });

  it("drops messages that are no interrupts", () => {
    const { msix, sent, program } = setUp();
    msix.setControl(ENABLE);
    program(0, 1, 0, 0x1000);
    msix.trigger(0);
    expect(sent).toEqual([]);
  });

  it("is driven through its capability", () => {
    const { msix } = setUp(5);
    const pci = new PciFunction({
      vendorId: 1,
      deviceId: 2,
      revision: 0,
      classCode: 0,
      subsystemVendorId: 0,
      subsystemId: 0,
    });
    msix.addCapability(pci, 0, 0x4000, 0x5000);
    const at = new Uint8Array(12);
    pci.read(0x40, at);
    expect([...at]).toEqual([0x11, 0, 4, 0, 0, 0x40, 0, 0, 0, 0x50, 0, 0]);
    pci.write(0x42, Uint8Array.of(0xff, 0xff));
    expect(msix.enabled).toBe(true);
    pci.read(0x42, at);
    expect([at[0], at[1]]).toEqual([4, 0xc0]);
  });

  it("forgets everything at reset", () => {
    const { msix, sent, program, pending } = setUp();
    msix.setControl(ENABLE);
    program(0, 1, 1);
    msix.trigger(0);
    msix.reset();
    expect([msix.enabled, pending()]).toEqual([false, 0]);
    msix.setControl(ENABLE);
    msix.trigger(0);
    expect(sent).toEqual([]);
  });
});
