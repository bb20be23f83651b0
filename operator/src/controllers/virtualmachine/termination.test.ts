import { describe, expect, it } from "@jest/globals";
import type { Pod } from "../../runtime/wire.ts";
import { terminationOf } from "./termination.ts";
import { at, claim, machine, podOf } from "./testing/fixtures.ts";

const disks = [
  { name: "root", readOnly: false, image: { reference: "registry.example/debian:13" } },
  { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "web-data" } },
];

/** The pod of a launcher that ended before the guest ran, and said why. */
function ended(reason: string, message: string): Pod {
  const pod = podOf(machine({ disks }), "running", { "web-data": claim("web-data") });
  const terminated = {
    exitCode: 66,
    startedAt: at(-50),
    finishedAt: at(-49),
    message: JSON.stringify({ version: 1, reason, message }),
  };
  const containerStatuses = pod.status?.containerStatuses?.map((each) => ({ ...each, state: { terminated } })) ?? [];
  return { ...pod, status: { ...pod.status, phase: "Failed", containerStatuses } };
}

describe("what a launcher said of a disk", () => {
  it.each([
    [
      "DiskUnavailable",
      "disk data: /d has 100 bytes: extend it",
      "disk data (PersistentVolumeClaim web-data): /d has 100 bytes: extend it",
    ],
    ["DiskUnavailable", "disk root: the image's disk is empty", "disk root: the image's disk is empty"],
    ["DiskUnavailable", "disk other: is gone", "disk other: is gone"],
    ["DiskUnavailable", "something else about disk data: x", "something else about disk data: x"],
    ["ConfigInvalid", "disk data: x", "disk data: x"],
  ])("names the claim that the pod has for it, where there is one (%s, %s)", (reason, said, message) => {
    expect(terminationOf(ended(reason, said), undefined, false)).toMatchObject({ reason, message });
  });
});
