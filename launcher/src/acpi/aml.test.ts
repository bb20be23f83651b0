import { describe, expect, it } from "@jest/globals";
import { buffer, eisaId, integer, name, path, scope, uuid } from "./aml.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("AML", () => {
  it.each([
    [0, "00"],
    [1, "01"],
    [2, "0a02"],
    [0xff, "0aff"],
    [0x100, "0b0001"],
    [0x1_0000, "0c00000100"],
    [0x1_0000_0000, "0e0000000001000000"],
    [2n ** 64n - 1n, "0effffffffffffffff"],
  ])("has %s in its shortest form", (value, encoded) => {
    expect(hex(integer(value))).toBe(encoded);
  });

  it.each([
    ["\\_SB", "5c5f53425f"],
    ["GED", "4745445f"],
    ["\\_SB.PCI0", "5c2e5f53425f50434930"],
    ["A.B.C", "2f03415f5f5f425f5f5f435f5f5f"],
  ])("has the name %s", (text, encoded) => {
    expect(hex(path(text))).toBe(encoded);
  });

  it("compresses EISA identifiers, the vendor in the low bytes", () => {
    expect(hex(eisaId("PNP0A08"))).toBe("0c41d00a08");
  });

  it("has UUIDs with their first three groups little endian", () => {
    expect(hex(uuid("33db4d5b-1ff7-401c-9657-7441c03dd766"))).toBe(
      "1113" + "0a10" + "5b4ddb33f71f1c4096577441c03dd766",
    );
  });

  // Lengths around each border between the forms: 1 byte holds 63, 2 hold 4095, 3 hold 1048575.
  it.each([
    [58, "3f", 1],
    [59, "4104", 2],
    [4089, "4fff", 2],
    [4090, "810001", 3],
  ])("packs a scope of %i content bytes", (contentBytes, length, lengthBytes) => {
    const term = scope("ABCD", new Uint8Array(contentBytes));
    expect(hex(term.subarray(1, 1 + lengthBytes))).toBe(length);
    expect(term.length).toBe(1 + lengthBytes + 4 + contentBytes);
  });

  it.each([
    ["a name that is too long", () => name("ABCDE", integer(0))],
    ["a lower-case name", () => name("abcd", integer(0))],
    ["an empty name", () => path("")],
    ["a negative integer", () => integer(-1)],
    ["an integer of 65 bits", () => integer(2n ** 64n)],
    ["a wrong EISA identifier", () => eisaId("PNP0A0")],
    ["a wrong UUID", () => uuid("33db4d5b")],
    ["a term of 2^28 bytes", () => buffer(new Uint8Array(2 ** 28))],
  ])("refuses %s", (_what, encode) => {
    expect(encode).toThrow(RangeError);
  });
});
