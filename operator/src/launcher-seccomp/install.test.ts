import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { installLauncherSeccomp, SeccompInstallError } from "./install.ts";
import { launcherSeccompName, launcherSeccompText } from "./profile.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "seccomp-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("installing the launchers' seccomp profile", () => {
  it("puts it where pods name it, readable for all", () => {
    const path = installLauncherSeccomp(join(directory, "seccomp"));
    expect(path).toBe(join(directory, "seccomp", launcherSeccompName()));
    expect(readFileSync(path, "utf8")).toBe(launcherSeccompText());
    expect(statSync(path).mode & 0o777).toBe(0o644);
  });

  it("leaves a right file alone, replaces a wrong one, and keeps those of other versions", () => {
    const path = installLauncherSeccomp(directory);
    writeFileSync(join(directory, "typevisor", "launcher-0123.json"), "{}");
    const { ino } = statSync(path);
    installLauncherSeccomp(directory);
    expect(statSync(path).ino).toBe(ino);
    writeFileSync(path, "{");
    installLauncherSeccomp(directory);
    expect(readFileSync(path, "utf8")).toBe(launcherSeccompText());
    expect(readdirSync(join(directory, "typevisor"))).toHaveLength(2);
  });

  it("says what cannot be written and the way out, and leaves nothing half written", () => {
    const blocked = join(directory, launcherSeccompName());
    mkdirSync(blocked, { recursive: true });
    writeFileSync(join(blocked, "in-the-way"), "");
    expect(() => installLauncherSeccomp(directory)).toThrow(SeccompInstallError);
    expect(() => installLauncherSeccomp(directory)).toThrow(/launcher-\w+\.json \(.*\): check .* or run without/);
    expect(readdirSync(join(directory, "typevisor"))).toHaveLength(1);
  });
});
