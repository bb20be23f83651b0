import { describe, expect, it } from "@jest/globals";
import { statusStep } from "./device-status.ts";

describe("the device status", () => {
  it("takes exactly the steps of a driver's initialization", () => {
    const legal: [number, number][] = [];
    for (const current of [0, 1, 3, 11, 15])
      for (let written = 1; written < 256; written++) {
        const step = statusStep(current, written);
        // NEEDS_RESET is the device's bit, and does not matter in what a driver writes.
        if (step !== "ignored" && (written & 0x40) === 0) legal.push([current, written]);
        if (step !== "ignored") expect(step).toBe(written & ~0x40);
      }
    const withFailed = (steps: [number, number][]) =>
      [0, 1, 3, 11, 15].flatMap((status): [number, number][] => [
        ...steps.filter(([from]) => from === status),
        [status, status | 0x80],
      ]);
    const steps: [number, number][] = [
      [0, 1],
      [0, 3],
      [1, 3],
      [3, 11],
      [11, 15],
    ];
    expect(legal).toEqual(withFailed(steps));
  });

  it("resets from anywhere", () => {
    for (let current = 0; current < 256; current++) expect(statusStep(current, 0)).toBe("reset");
  });

  it("leads out of NEEDS_RESET and FAILED by reset alone", () => {
    for (const stuck of [0x4f, 0x8f, 0x83, 0x80])
      for (let written = 1; written < 256; written++) expect(statusStep(stuck, written)).toBe("ignored");
  });
});
