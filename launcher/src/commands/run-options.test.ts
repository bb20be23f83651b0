import { describe, expect, it } from "@jest/globals";
import { parseRunOptions } from "./run-options.ts";

describe("the options of launcher run", () => {
  it("say which disks of a machine that comes are copied", () => {
    const { configPath, origin } = parseRunOptions([
      "m.json",
      "--receive",
      "--copied",
      "root=1024",
      "--copied=data=512@/dev/typevisor/data",
      "--moved=old=512@/disks/old",
    ]);
    expect(configPath).toBe("m.json");
    const copied = [
      { name: "root", sizeBytes: 1024 },
      { name: "data", sizeBytes: 512, path: "/dev/typevisor/data" },
    ];
    const moved = [{ name: "old", sizeBytes: 512, path: "/disks/old" }];
    expect(origin).toEqual({ kind: "migrated", copied, moved });
    expect(parseRunOptions(["m.json", "--receive"]).origin).toEqual({ kind: "migrated", copied: [], moved: [] });
  });

  it.each([
    [["m.json", "--copied", "root=1024"], /^--copied is .*add it/],
    [["m.json", "--moved", "root=512@/disks/root"], /^--moved is .*add it/],
    [["m.json", "--receive", "--copied", "root"], /^--copied takes DISK=BYTES or DISK=BYTES@PATH.*not "root"$/],
    [["m.json", "--receive", "--copied", "root=512@relative"], /^--copied takes .*an absolute path/],
    [["m.json", "--receive", "--copied", "root=1000"], /^--copied takes .*multiple of 512/],
    [["m.json", "--receive", "--copied", "root=9999999999999872"], /^--copied takes .*up to 2\^50/],
    [["m.json", "--receive", "--moved", "root"], /^--moved takes DISK=BYTES@PATH.*not "root"$/],
    [["m.json", "--receive", "--moved", "root=512"], /^--moved takes DISK=BYTES@PATH/],
    [["m.json", "--receive", "--moved", "root=512@relative"], /^--moved takes .*an absolute path/],
    [["m.json", "--receive", "--moved", "root=1000@/disks/root"], /^--moved takes .*multiple of 512/],
    [["m.json", "--receive", "--restore", "there"], /not both/],
    [["--receive"], /one machine\.json/],
  ])("refuse %j", (args, message) => {
    expect(() => parseRunOptions(args)).toThrow(message);
  });
});
