import { describe, expect, it } from "@jest/globals";
import { parseRunOptions } from "./run-options.ts";

describe("the options of launcher run", () => {
  it("say which disks of a machine that comes are copied", () => {
    const { configPath, origin } = parseRunOptions([
      "m.json",
      "--receive",
      "--copied",
      "root=1024",
      "--copied=data=512",
    ]);
    expect(configPath).toBe("m.json");
    const copied = [
      { name: "root", sizeBytes: 1024 },
      { name: "data", sizeBytes: 512 },
    ];
    expect(origin).toEqual({ kind: "migrated", copied });
    expect(parseRunOptions(["m.json", "--receive"]).origin).toEqual({ kind: "migrated", copied: [] });
  });

  it.each([
    [["m.json", "--copied", "root=1024"], /add it/],
    [["m.json", "--receive", "--copied", "root"], /DISK=BYTES/],
    [["m.json", "--receive", "--copied", "root=1000"], /multiple of 512/],
    [["m.json", "--receive", "--copied", "root=9999999999999872"], /up to 2\^50/],
    [["m.json", "--receive", "--restore", "there"], /not both/],
    [["--receive"], /one machine\.json/],
  ])("refuse %j", (args, message) => {
    expect(() => parseRunOptions(args)).toThrow(message);
  });
});
