import { describe, expect, it } from "@jest/globals";
import { type Waiting, waitsFor } from "./turn.ts";

const limits = { perCluster: 3, perNode: 2 };
const one = (uid: string, changes: Partial<Waiting> = {}): Waiting => ({
  ...{ uid, priority: "User", createdAt: "2026-01-01T00:00:00Z", machine: `shop/${uid}`, node: `node-of-${uid}` },
  ...changes,
});
/** Whose turn it is. */
const turns = (waiting: Waiting[], active: Waiting[] = []) =>
  waiting.filter(({ uid }) => waitsFor(uid, { active, waiting }, limits) === undefined).map(({ uid }) => uid);

describe("the turn of a migration", () => {
  it("has come while there are places", () => {
    expect(turns([one("a"), one("b"), one("c")])).toEqual(["a", "b", "c"]);
    expect(turns([one("a"), one("b")], [one("x"), one("y"), one("z")])).toEqual([]);
  });

  it("comes by priority, then by age, then by name, and never to more than there are places", () => {
    const old = "2025-01-01T00:00:00Z";
    const all = [
      one("maintenance", { priority: "Maintenance", createdAt: old }),
      one("user-2"),
      one("user-1"),
      one("old", { createdAt: old }),
      one("drain", { priority: "Drain" }),
    ];
    expect(turns(all)).toEqual(["user-1", "old", "drain"]);
    expect(turns(all, [one("x"), one("y")])).toEqual(["drain"]);
  });

  it("passes those by whose node has enough, and whose machine moves already", () => {
    const busy = { node: "busy" };
    const active = [one("x", busy)];
    expect(turns([one("a", busy), one("b", busy), one("c")], active)).toEqual(["a", "c"]);
    expect(turns([one("again", { machine: "shop/x" }), one("c")], active)).toEqual(["c"]);
  });

  it("is not taken by one whose machine is nowhere yet", () => {
    expect(turns([one("new", { node: undefined, priority: "Drain" }), one("c")], [one("x"), one("y")])).toEqual(["c"]);
  });

  it("says what it waits for", () => {
    const waiting = [one("a", { node: "busy" })];
    const why = (active: Waiting[]) => waitsFor("a", { active, waiting }, limits);
    expect(why([one("x"), one("y"), one("z")])).toMatch(/3 migrations of the cluster come first, and the limit is 3/);
    expect(why([one("x", { node: "busy" }), one("y", { node: "busy" })])).toMatch(/2 migrations away from node busy/);
    expect(why([one("x", { machine: "shop/a" })])).toBe("Another migration of the machine comes first");
  });
});
