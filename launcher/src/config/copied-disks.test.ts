import { describe, expect, it } from "@jest/globals";
import type { DiskConfig, MachineConfig } from "../../api/machine-config.ts";
import { withCopiedDisks } from "./copied-disks.ts";

const disk = (name: string, changes: Partial<DiskConfig> = {}): DiskConfig => {
  const source = { kind: "directory", path: `/disks/${name}`, sizeBytes: 1024 } as const;
  return { name, readOnly: false, queues: 1, source, ...changes };
};
const copiedInto = (disks: DiskConfig[], name: string) =>
  withCopiedDisks({ disks } as unknown as MachineConfig, [{ name, sizeBytes: 4096 }]).disks;

describe("a machine.json whose disks are copied", () => {
  it("has the size that they have by now, and the others as they were", () => {
    expect(copiedInto([disk("root"), disk("data")], "data")).toEqual([
      disk("root"),
      disk("data", { source: { kind: "directory", path: "/disks/data", sizeBytes: 4096, copied: true } }),
    ]);
  });

  it.each<[string, DiskConfig[], RegExp]>([
    ["a disk that it has not", [disk("root")], /disks have no data/],
    ["a block device", [disk("data", { source: { kind: "raw", path: "/dev/x" } })], /disks\[0\]\.source\.kind is raw/],
    ["a disk that nobody writes to", [disk("data", { readOnly: true })], /disks\[0\]\.readOnly is true/],
  ])("is refused for %s", (_what, disks, message) => {
    expect(() => copiedInto(disks, "data")).toThrow(message);
  });
});
