import { beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import { bootGuest } from "./guest.ts";

let lab: LinuxLab;
beforeAll(async () => {
  lab = await openLab();
});

describe("the processors of a guest", () => {
  it.each([2, 4])("are %i where that many were asked for, and all of them work", async (cpus) => {
    await using guest = await bootGuest(lab, { image: "hello", cpus });
    const seen = await guest.console.shell("grep -c ^processor /proc/cpuinfo");
    expect(Number(seen)).toBe(cpus);
    const ran = await guest.console.shell(
      `for i in $(seq 0 ${cpus - 1}); do taskset -c $i sh -c 'cut -d" " -f39 /proc/self/stat'; done | tr '\\n' ' '`,
    );
    expect(ran.trim()).toBe(Array.from({ length: cpus }, (_, index) => String(index)).join(" "));
    expect((await guest.launcher.status()).cpus).toBe(cpus);
  });
});
