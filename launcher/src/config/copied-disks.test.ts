import { describe, expect, it } from "@jest/globals";
import type { DiskConfig, MachineConfig } from "../../api/machine-config.ts";
import { withCopiedDisks, withMovedDisks } from "./copied-disks.ts";

const disk = (name: string, changes: Partial<DiskConfig> = {}): DiskConfig => {
  const source = { kind: "directory", path: `/disks/${name}`, sizeBytes: 1024 } as const;
  return { name, readOnly: false, queues: 1, source, ...changes };
};
const copiedInto = (disks: DiskConfig[], name: string) =>
  withCopiedDisks({ disks } as unknown as MachineConfig, [{ name, sizeBytes: 4096 }]).disks;
const movedInto = (disks: DiskConfig[], name: string) =>
  withMovedDisks({ disks } as unknown as MachineConfig, [{ name, sizeBytes: 4096, path: "/dev/null" }]).disks;

describe("a machine.json whose disks are copied", () => {
  it("has the size that they have by now, and the others as they were", () => {
    expect(copiedInto([disk("root"), disk("data")], "data")).toEqual([
      disk("root"),
      disk("data", { source: { kind: "directory", path: "/disks/data", sizeBytes: 4096, copied: true } }),
    ]);
  });

  it("has a block device, as large as the source's", () => {
    const source = { kind: "raw", path: "/dev/x" } as const;
    expect(copiedInto([disk("data", { source })], "data")).toEqual([
      disk("data", { source: { ...source, sizeBytes: 4096, copied: true } }),
    ]);
  });

  it("has them where the command line says, of the kind that is there", () => {
    const config = { disks: [disk("root"), disk("data")] } as unknown as MachineConfig;
    const at = (path: string) => [{ name: "data", sizeBytes: 4096, path }];
    const dataOf = ({ disks }: MachineConfig) => disks[1]?.source;
    const copied = { sizeBytes: 4096, copied: true };
    expect(dataOf(withCopiedDisks(config, at("/dev/null")))).toEqual({ kind: "raw", path: "/dev/null", ...copied });
    expect(dataOf(withCopiedDisks(config, at("/dev")))).toEqual({ kind: "directory", path: "/dev", ...copied });
    expect(withMovedDisks(config, at("/dev/null")).disks).toEqual([
      disk("root"),
      disk("data", { source: { kind: "raw", path: "/dev/null" } }),
    ]);
    expect(dataOf(withMovedDisks(config, at("/dev")))).toEqual({ kind: "directory", path: "/dev", sizeBytes: 4096 });
  });

  it.each<[string, DiskConfig[], RegExp]>([
    ["a disk that it has not", [disk("root")], /disks have no data/],
    [
      "an image",
      [disk("data", { source: { kind: "image", imageRoot: "/i", overlayPath: "/o" } })],
      /\.source\.kind is image/,
    ],
    ["a disk that nobody writes to", [disk("data", { readOnly: true })], /disks\[0\]\.readOnly is true/],
  ])("is refused for %s", (_what, disks, message) => {
    expect(() => copiedInto(disks, "data")).toThrow(message);
    expect(() => copiedInto(disks, "data")).toThrow("; --copied ");
    expect(() => movedInto(disks, "data")).toThrow(message);
    expect(() => movedInto(disks, "data")).toThrow("; --moved ");
  });
});
