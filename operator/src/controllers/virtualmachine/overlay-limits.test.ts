import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { DiskStatus, LauncherStatus } from "../../../../launcher/api/control.ts";
import { parseMachineConfig } from "../../../../launcher/src/config/machine-config.ts";
import { decide } from "./decide.ts";
import { machineConfig } from "./machine-config.ts";
import { launcherPod } from "./pod.ts";
import { at, launcherSays, machine, NOW_MS, observation, podOf, settings, TRUST } from "./testing/fixtures.ts";

const GIB = 2 ** 30;
const root = (overlaySizeLimit?: string, name = "root"): Disk => ({
  name,
  readOnly: false,
  image: { reference: "registry.example/debian:13", ...(overlaySizeLimit === undefined ? {} : { overlaySizeLimit }) },
});

function directoryOf(disks: Disk[]) {
  const vm = machine({ disks });
  const pod = launcherPod(vm, { settings, restarts: 0, certificateRenewAt: at(0), trustId: TRUST, claims: {} });
  return pod.spec?.volumes?.find(({ name }) => name === "overlay");
}

/** A machine that was started with `started`, has `limitBytes` by what its launcher says, and whose spec says `wanted` now. */
function running(
  { started, wanted, limitBytes }: { started: Disk[]; wanted: Disk[]; limitBytes: number | undefined },
  changes: { overlay?: Partial<NonNullable<DiskStatus["overlay"]>>; status?: Partial<LauncherStatus> } = {},
) {
  const pod = podOf(machine({ disks: started }), "running");
  const overlay = {
    usedBytes: 0,
    isFull: false,
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...changes.overlay,
  };
  const disks = [{ name: "root", sizeBytes: 20 * GIB, readOnly: false, overlay }];
  const launcher = launcherSays(pod, { disks, ...changes.status });
  const { actions } = decide(observation(machine({ disks: wanted }), { pod, launcher }), settings, NOW_MS);
  const written = actions.find((action) => action.kind === "write-status");
  if (written?.kind !== "write-status") throw new Error("no status");
  const condition = (type: string) => written.status.conditions?.find((each) => each.type === type);
  return { limits: actions.filter(({ kind }) => kind === "limit-overlay"), condition };
}

describe("the limit of an overlay", () => {
  it("is the disk's own, or the administrator's", () => {
    const vm = machine({ disks: [root(), root("2Gi", "own")] });
    const { disks } = parseMachineConfig(JSON.stringify(machineConfig(vm, settings, {})));
    expect(disks).toMatchObject([
      { source: { kind: "image", overlayLimitBytes: 10 * GIB } },
      { source: { kind: "image", overlayLimitBytes: 2 * GIB } },
    ]);
  });

  it("leaves the pod's directory room for twice as much, and what the file system needs", () => {
    expect(directoryOf([root("1Gi")])).toEqual({ name: "overlay", emptyDir: { sizeLimit: "2080Mi" } });
    expect(directoryOf([root("1Gi"), root("32Mi", "small")])?.emptyDir).toEqual({ sizeLimit: "2145Mi" });
    expect(directoryOf([])).toBeUndefined();
  });

  it.each<[string, Disk[], number, number]>([
    ["raised", [root("15Gi")], 10 * GIB, 15 * GIB],
    ["raised to all that the pod has room for", [root("20Gi")], 10 * GIB, 20 * GIB],
    ["lowered where the spec says so", [root("1Gi")], 10 * GIB, GIB],
    ["taken back to the administrator's, which is more", [root()], GIB, 10 * GIB],
  ])("of a running machine is %s, without a restart", (_what, wanted, limitBytes, bytes) => {
    const { limits, condition } = running({ started: [root()], wanted, limitBytes });
    expect(limits).toMatchObject([{ disk: "root", bytes, ip: "10.0.0.7" }]);
    expect(condition("RestartRequired")?.status).toBe("False");
  });

  it.each<[string, Disk[], number | undefined]>([
    ["as it is to be", [root("10Gi")], 10 * GIB],
    ["above the administrator's, which was lowered", [root()], 15 * GIB],
    ["unknown to its launcher, of a version before", [root("15Gi")], undefined],
  ])("of a running machine is left alone where it is %s", (_what, wanted, limitBytes) => {
    expect(running({ started: [root()], wanted, limitBytes }).limits).toEqual([]);
  });

  it("beyond what the pod has room for needs a restart", () => {
    const { limits, condition } = running({ started: [root()], wanted: [root("21Gi")], limitBytes: 10 * GIB });
    expect(limits).toEqual([]);
    expect(condition("RestartRequired")).toMatchObject({
      status: "True",
      message: expect.stringContaining("spec.disks[root].image.overlaySizeLimit"),
    });
  });

  it("of a disk that waits for a restart takes no room of the running pod", () => {
    const wanted = [root("20Gi"), root("20Gi", "more")];
    expect(running({ started: [root()], wanted, limitBytes: 10 * GIB }).limits).toMatchObject([{ bytes: 20 * GIB }]);
  });

  it("that is reached is told with the figures and the way out", () => {
    const { limits, condition } = running(
      { started: [root()], wanted: [root()], limitBytes: 10 * GIB },
      {
        overlay: { usedBytes: 10 * GIB - 4096, isFull: true },
        status: { state: "Paused", pause: { asked: false, storageFull: ["root"] } },
      },
    );
    expect(limits).toEqual([]);
    expect(condition("Ready")).toMatchObject({
      status: "False",
      reason: "StorageFull",
      message:
        "The guest has written 10Gi beside the image of disk root, and may write 10Gi: raise spec.disks[root].image.overlaySizeLimit, up to 20Gi while it runs. The guest is paused until there is room",
    });
    expect(condition("Paused")).toMatchObject({ status: "True", reason: "StorageFull" });
  });

  it("is raised while the guest is paused by it", () => {
    const status = { state: "Paused", pause: { asked: false, storageFull: ["root"] } } as const;
    const { limits } = running({ started: [root()], wanted: [root("12Gi")], limitBytes: 10 * GIB }, { status });
    expect(limits).toMatchObject([{ bytes: 12 * GIB }]);
  });

  it("is not told of where the storage itself is full", () => {
    const status = { state: "Paused", pause: { asked: false, storageFull: ["root"] } } as const;
    const { condition } = running({ started: [root()], wanted: [root()], limitBytes: 10 * GIB }, { status });
    expect(condition("Ready")?.message).toMatch(/^The storage of disk root is full: make room on the node/);
  });
});
