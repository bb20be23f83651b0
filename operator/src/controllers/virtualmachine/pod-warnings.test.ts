import { describe, expect, it } from "@jest/globals";
import { Store } from "../../runtime/store.ts";
import type { Event, Pod } from "../../runtime/wire.ts";
import { PodWarnings, trimWarning } from "./pod-warnings.ts";

const pod = (uid: string, phase = "Pending"): Pod => ({
  metadata: { namespace: "shop", name: "vm-web", uid, resourceVersion: "1" },
  status: { phase },
});
/** An event as the API server gives it for what a kubelet wrote in the older form. */
const event = (note: string, { uid = "u1", reason = "FailedMount", at = 1 } = {}): Event => ({
  metadata: { namespace: "shop", name: `vm-web.${note.length}`, resourceVersion: "9" },
  eventTime: null as unknown as string,
  regarding: { kind: "Pod", namespace: "shop", name: "vm-web", uid },
  type: "Warning",
  reason,
  note,
  deprecatedLastTimestamp: `2026-05-06T07:08:0${at}Z`,
});

function warnings(known: Pod = pod("u1")) {
  const pods = new Store<Pod>();
  pods.put(known);
  const news: string[] = [];
  const made = new PodWarnings(pods, (about) => news.push(about.metadata?.uid ?? ""));
  const hear = (...args: Parameters<typeof event>) => made.put(trimWarning(event(...args)));
  return { made, news, hear, notes: (uid = "u1") => made.about(uid)?.map(({ note }) => note) };
}

describe("warnings about pods", () => {
  it("are not known before the first list, and are none after an empty one", () => {
    const { made, news } = warnings();
    expect(made.about("u1")).toBeUndefined();
    made.replace([]);
    made.markSynced();
    expect(made.about("u1")).toEqual([]);
    expect(news).toEqual(["u1"]);
  });

  it("are kept by reason, the last of each, whatever the order they come in", () => {
    const { hear, news, notes } = warnings();
    hear("second", { at: 2 });
    hear("first", { at: 1 });
    hear("no sandbox", { reason: "FailedCreatePodSandBox" });
    hear("third", { at: 3 });
    expect(notes()?.sort()).toEqual(["no sandbox", "third"]);
    expect(news).toEqual(["u1", "u1", "u1"]);
  });

  it("bring no news when they repeat", () => {
    const { hear, news, made } = warnings();
    hear("the same", { at: 1 });
    hear("the same", { at: 5 });
    expect(news).toEqual(["u1"]);
    expect(made.about("u1")?.[0]?.atMs).toBe(Date.parse("2026-05-06T07:08:05Z"));
  });

  it("that only say it took too long do not hide the cause", () => {
    const { hear, notes } = warnings();
    hear("timed out waiting for the condition", { at: 1 });
    hear('secret "x" not found', { at: 2 });
    hear("timed out waiting for the condition", { at: 3 });
    expect(notes()).toEqual(['secret "x" not found']);
  });

  it.each([
    ["another pod of the name", pod("u1"), { uid: "u0" }],
    ["a pod that has started", pod("u1", "Running"), {}],
    ["what nobody asks for", pod("u1"), { reason: "Unhealthy" }],
  ])("about %s are not kept", (_, known, about) => {
    const { hear, made, news } = warnings(known);
    hear("note", about);
    expect(made.about("u1")).toBeUndefined();
    expect(news).toEqual([]);
  });

  it("outlive their events, are forgotten with their pod, and are cut to size", () => {
    const { made, hear, notes } = warnings();
    hear("x".repeat(5000));
    made.remove();
    expect(notes()?.[0]).toHaveLength(1024);
    made.forget("u1");
    expect(made.about("u1")).toBeUndefined();
  });

  it("have the time of their series where they are of the newer form", () => {
    const series = { count: 3, lastObservedTime: "2026-05-06T09:00:00.000000Z" };
    expect(trimWarning({ ...event("x"), series }).atMs).toBe(Date.parse("2026-05-06T09:00:00Z"));
  });
});
