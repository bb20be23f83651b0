import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { until } from "../../../../launcher/src/testing/until.ts";
import { kvmProblem, watchDevice } from "./kvm-health.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "kvm-health-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("the health of KVM", () => {
  it("names what is missing or no KVM device", () => {
    expect(kvmProblem(join(directory, "kvm"))).toMatch(/kvm.*ENOENT/);
    expect(kvmProblem("/dev/null")).toMatch(/KVM_GET_API_VERSION.*ENOTTY/);
  });

  it("is looked at again when the device comes or goes, and not for others", async () => {
    let changes = 0;
    using _watcher = watchDevice(join(directory, "kvm"), () => changes++);
    writeFileSync(join(directory, "kvm2"), "");
    writeFileSync(join(directory, "kvm"), "");
    await until(() => changes === 1);
    rmSync(join(directory, "kvm"));
    await until(() => changes === 2);
  });
});
