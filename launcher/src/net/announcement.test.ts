import { describe, expect, it } from "@jest/globals";
import { ipv4Bytes, macBytes } from "./addresses.ts";
import { announcementsOf } from "./announcement.ts";

const mac = macBytes("02:5a:00:12:34:56");
const hex = (frame: Uint8Array) => Buffer.from(frame).toString("hex");
const padding = "00".repeat(18);

describe("what announces a guest that came from elsewhere", () => {
  it("is a reverse ARP request in the guest's name, whatever its address", () => {
    const [frame, ...more] = announcementsOf(mac).map(hex);
    const ends = `025a00123456${"00000000"}025a00123456${"00000000"}`;
    expect(frame).toBe(`ffffffffffff025a001234568035${"0001080006040003"}${ends}${padding}`);
    expect(more).toEqual([]);
  });

  it("is an ARP announcement too, where its address is known", () => {
    const [, frame, ...more] = announcementsOf(mac, ipv4Bytes("10.244.1.7")).map(hex);
    const ends = `025a001234560af40107${"000000000000"}0af40107`;
    expect(frame).toBe(`ffffffffffff025a001234560806${"0001080006040001"}${ends}${padding}`);
    expect(more).toEqual([]);
  });
});
