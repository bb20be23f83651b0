import { describe, expect, it } from "@jest/globals";
import type { IoCompletion } from "../storage.ts";
import { SharedLoads } from "./shared-loads.ts";

/** Loads that end when the test says so. */
function setUp(limit: number) {
  const started: string[] = [];
  const ended: string[] = [];
  const underWay = new Map<number, IoCompletion>();
  const loads = new SharedLoads(limit, (key, lengthBytes, completion) => {
    started.push(`${key}:${lengthBytes}`);
    underWay.set(key, completion);
  });
  const load = (key: number, name: string) =>
    loads.load(key, 10 * key, { completed: (errno) => ended.push(`${name}=${errno}`) });
  return { started, ended, load, end: (key: number, errno: number) => underWay.get(key)?.completed(errno) };
}

describe("shared loads", () => {
  it("are done once for all who wait, and again for who comes after", () => {
    const { started, ended, load, end } = setUp(4);
    load(1, "a");
    load(1, "b");
    load(2, "c");
    expect(started).toEqual(["1:10", "2:20"]);
    end(1, 5);
    expect(ended).toEqual(["a=5", "b=5"]);
    load(1, "d");
    expect(started).toEqual(["1:10", "2:20", "1:10"]);
  });

  it("are no more than a few at a time, in order", () => {
    const { started, ended, load, end } = setUp(2);
    for (const key of [1, 2, 3, 4]) load(key, `k${key}`);
    load(3, "again");
    expect(started).toEqual(["1:10", "2:20"]);
    end(2, 0);
    expect(started).toEqual(["1:10", "2:20", "3:30"]);
    end(3, 0);
    end(1, 0);
    end(4, 0);
    expect(ended).toEqual(["k2=0", "k3=0", "again=0", "k1=0", "k4=0"]);
  });

  it("may end before the call that starts them returns", () => {
    const loads = new SharedLoads(1, (_key, _lengthBytes, completion) => completion.completed(0));
    const ended: number[] = [];
    for (let key = 0; key < 3; key++) loads.load(key, 1, { completed: () => ended.push(key) });
    expect(ended).toEqual([0, 1, 2]);
  });
});
