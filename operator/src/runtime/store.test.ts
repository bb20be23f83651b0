import { describe, expect, it } from "@jest/globals";
import { type Change, Store } from "./store.ts";
import type { KubernetesObject } from "./wire.ts";

function object(name: string, resourceVersion: number, labels: Record<string, string> = {}): KubernetesObject {
  return { metadata: { name, namespace: "ns", resourceVersion: String(resourceVersion), labels } };
}
const byApp = { app: (o: KubernetesObject) => (o.metadata?.labels?.["app"] ? [o.metadata.labels["app"]] : []) };

describe("Store", () => {
  it("keeps the later state whatever order states arrive in", () => {
    const store = new Store();
    store.put(object("a", 7));
    store.put(object("a", 5));
    expect(store.get("ns/a")?.metadata?.resourceVersion).toBe("7");
  });

  it("does not let an old deletion remove an object made later under the same name", () => {
    const store = new Store();
    store.put(object("a", 9));
    store.remove(object("a", 8));
    expect(store.size).toBe(1);
    store.remove(object("a", 10));
    expect(store.size).toBe(0);
  });

  it("does not take in what an answer says of an object that the watch has seen go", () => {
    const store = new Store();
    store.put(object("a", 5));
    store.remove(object("a", 8));
    store.put(object("a", 8));
    expect(store.size).toBe(0);
    store.put(object("a", 9));
    expect(store.size).toBe(1);
    store.replace([], "12");
    store.put(object("a", 11));
    expect(store.size).toBe(0);
  });

  it("keeps an object that was written after the list that lacks it was taken", () => {
    const store = new Store();
    store.put(object("old", 3));
    store.put(object("new", 12));
    store.replace([object("listed", 9)], "10");
    expect([...store.values()].map((o) => o.metadata?.name)).toEqual(["new", "listed"]);
  });

  it("replaces within one namespace without touching the others", () => {
    const store = new Store();
    store.put({ metadata: { name: "x", namespace: "other", resourceVersion: "1" } });
    store.replace([], "10", (o) => o.metadata?.namespace === "ns");
    expect(store.get("other/x")).toBeDefined();
  });

  it("moves objects between index values as they change", () => {
    const store = new Store(byApp);
    store.put(object("a", 1, { app: "web" }));
    store.put(object("b", 2, { app: "web" }));
    store.put(object("a", 3, { app: "db" }));
    expect(store.byIndex("app", "web").map((o) => o.metadata?.name)).toEqual(["b"]);
    expect(store.byIndex("app", "db").map((o) => o.metadata?.name)).toEqual(["a"]);
    store.remove(object("b", 4));
    expect(store.byIndex("app", "web")).toEqual([]);
  });

  it("tells handlers of each change once, and of none for what it already knew", () => {
    const store = new Store();
    const changes: Change<KubernetesObject>[] = [];
    store.onChange((change) => changes.push(change));
    store.put(object("a", 1));
    store.put(object("a", 1));
    store.remove(object("a", 2));
    expect(changes.map((c) => [c.previous?.metadata?.resourceVersion, c.current?.metadata?.resourceVersion])).toEqual([
      [undefined, "1"],
      ["1", undefined],
    ]);
  });
});
