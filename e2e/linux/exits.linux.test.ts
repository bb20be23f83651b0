import { describe, expect, it } from "@jest/globals";
import { openLab } from "../../hack/linux-lab/open.ts";
import { bootGuest } from "./guest.ts";

/** Ports of the first serial port: what is written there decides how often they are used. */
const isSerial = (kind: string) => /^io:0x3f[89a-f]$/.test(kind);
const limit = 3000;

describe("a boot to the shell", () => {
  it(`leaves the guest at most ${limit} times for anything but what the serial port is asked to print`, async () => {
    const lab = await openLab();
    await using guest = await bootGuest(lab, { image: "hello" });
    const { exits } = await guest.launcher.status();
    const kinds = Object.entries(exits).sort(([, a], [, b]) => b - a);
    console.log(`exits by kind: ${kinds.map(([kind, count]) => `${kind} ${count}`).join(", ")}`);
    const total = kinds.filter(([kind]) => !isSerial(kind)).reduce((sum, [, count]) => sum + count, 0);
    expect(total).toBeGreaterThan(0);
    expect(total).toBeLessThanOrEqual(limit);
  });
});
