import { describe, expect, it } from "@jest/globals";
import { kernelComplaint } from "./node-vm.ts";

describe("the console of a node that boots", () => {
  it.each([
    "[    2.878507] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    "[    1.203311] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI",
    "[    0.512311] BUG: unable to handle page fault for address: ffff888000000000",
  ])("shows a broken kernel by %j", (line) => {
    expect(kernelComplaint(`[    0.000000] Linux version 6.12\r\n${line}\r\nmore\r\n`)).toBe(line);
  });

  it("shows nothing of the kind in an ordinary boot", () => {
    const lines = [
      "[    0.000000] Command line: console=ttyS0 oops=panic",
      "[    1.2] ima: No TPM chip found",
      "node: ssh",
    ];
    expect(kernelComplaint(lines.join("\n"))).toBeUndefined();
  });
});
