import { describe, expect, it } from "@jest/globals";
import { ClaimRefusedError, RefusedError } from "./act.ts";
import { DeviceRefusedError } from "./device-refused.ts";
import type { Action } from "./plan.ts";
import { Refusals } from "./refusals.ts";

const refused = new RefusedError({ reason: "PodForbidden", message: "no such class", generation: 3 });
const claimRefused = new ClaimRefusedError("data", 100, "it does not shrink");
const deviceRefused = new DeviceRefusedError("data", "it is not there yet", true);
const done = (action: object) => action as Action;

describe("Refusals", () => {
  it("are kept for each machine, counted, until it is gone", () => {
    const refusals = new Refusals();
    expect(refusals.of("a")).toEqual({ claims: {}, devices: {} });
    for (const [at, error] of [refused, refused, claimRefused, deviceRefused, deviceRefused].entries())
      expect(refusals.note("a", error, at)).toBe(true);
    expect(refusals.of("a")).toEqual({
      start: { reason: "PodForbidden", message: "no such class", generation: 3, count: 2, atMs: 1 },
      claims: { data: { requestBytes: 100, message: "it does not shrink", atMs: 2 } },
      devices: { data: { message: "it is not there yet", isPassing: true, count: 2, atMs: 4 } },
    });
    expect(refusals.note("a", new Error("another"), 5)).toBe(false);
    expect(refusals.of("b")).toEqual({ claims: {}, devices: {} });
    refusals.forget("a");
    expect(refusals.of("a")).toEqual({ claims: {}, devices: {} });
  });

  it("are void once the same is had, each by itself", () => {
    const refusals = new Refusals();
    for (const error of [refused, claimRefused, deviceRefused]) refusals.note("a", error, 0);
    refusals.done("a", done({ kind: "attach-interface", config: { name: "data" } }));
    refusals.done("a", done({ kind: "apply-claim", claim: { metadata: { name: "data" } }, requestBytes: 99 }));
    expect(refusals.of("a")).toMatchObject({ claims: { data: {} }, devices: { data: {} } });
    refusals.done("a", done({ kind: "start" }));
    expect(refusals.of("a").start).toBeUndefined();
    refusals.done("a", done({ kind: "attach-disk", disk: { name: "data" } }));
    expect(refusals.of("a").devices).toEqual({});
    refusals.done("a", done({ kind: "apply-claim", claim: { metadata: { name: "data" } }, requestBytes: 100 }));
    expect(refusals.of("a").claims).toEqual({});
  });
});
