import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { formatBytes, parseQuantity, QuantityError } from "./quantity.ts";

describe("parseQuantity", () => {
  it.each([
    ["0", 0],
    ["1024", 1024],
    [2, 2],
    ["64Mi", 64 * 1024 ** 2],
    ["1.5Gi", 1.5 * 1024 ** 3],
    ["16Ti", 16 * 1024 ** 4],
    ["1k", 1000],
    ["17M", 17e6],
    ["100m", 0.1],
    ["1e3", 1000],
    ["1E3", 1000],
    ["2E", 2e18],
    ["+1", 1],
    ["-5Mi", -5 * 1024 ** 2],
    [".5", 0.5],
    ["5.", 5],
  ])("reads %p as %p", (text, value) => {
    expect(parseQuantity(text)).toBeCloseTo(value, 9);
  });

  it.each(["", "Mi", "1 Gi", "1gi", "1KB", "0x10", "1e", "NaN", "1Mi "])("refuses %p", (text) => {
    expect(() => parseQuantity(text)).toThrow(QuantityError);
    expect(() => parseQuantity(text)).toThrow(`"${text}" is not a Kubernetes quantity such as 512Mi or 100m`);
  });
});

describe("formatBytes", () => {
  it.each([
    [0, "0"],
    [1023, "1023"],
    [1024, "1Ki"],
    [1536 * 1024, "1536Ki"],
    [1024 ** 3, "1Gi"],
    [2 ** 60, "1Ei"],
  ])("writes %p as %p", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it("loses nothing", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseQuantity(formatBytes(bytes)) === bytes));
  });
});
