import { isIP } from "node:net";
import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { formatAddress, formatMac, isLinkLocal, parseAddress, parseMac } from "./ip-address.ts";

describe("an address", () => {
  it.each([
    ["10.0.2.2", [10, 0, 2, 2]],
    ["fd10:0:2::2", [0xfd, 0x10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]],
    ["::", Array(16).fill(0)],
    ["::1", [...Array(15).fill(0), 1]],
    ["fe80::", [0xfe, 0x80, ...Array(14).fill(0)]],
    ["1:0:0:2::3", [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]],
    ["1::2:0:0:3:10", [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0x10]],
    ["1:0:2:3:4:5:6:7", [0, 1, 0, 0, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7]],
  ])("is written as %s", (text, bytes) => {
    expect(formatAddress(Uint8Array.from(bytes))).toBe(text);
    expect([...parseAddress(text)]).toEqual(bytes);
  });

  it("of any bytes is one, and leads back to them", () => {
    const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const bytes = Uint8Array.from(groups.flatMap((each) => [each >> 8, each & 0xff]));
        const text = formatAddress(bytes);
        expect(isIP(text)).toBe(6);
        expect(text).toBe(new URL(`http://[${text}]/`).hostname.slice(1, -1));
        expect(parseAddress(text)).toEqual(bytes);
      }),
    );
  });

  it("is link-local in all of fe80::/10", () => {
    expect(["fe80::1", "febf::1", "fec0::1", "fd10::fe80", "169.254.1.1"].map(isLinkLocal)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});

it("a MAC leads to bytes and back", () => {
  expect([...parseMac("02:5a:00:12:34:ff")]).toEqual([2, 0x5a, 0, 0x12, 0x34, 0xff]);
  expect(formatMac(parseMac("02:5a:00:12:34:ff"))).toBe("02:5a:00:12:34:ff");
});
