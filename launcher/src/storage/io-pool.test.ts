import { describe, expect, it } from "@jest/globals";
import type { IoDone } from "../sys/file-io.ts";
import { type IoLane, IoPool } from "./io-pool.ts";

/** Operations that end when the test says so. */
function setUp(threads: number, laneCount: number) {
  const pool = new IoPool(threads);
  const started: string[] = [];
  const ended: string[] = [];
  const ends = new Map<string, IoDone>();
  const run = (lane: IoLane, name: string) =>
    lane.run({
      start: (done) => {
        started.push(name);
        ends.set(name, done);
      },
      ended: (result) => ended.push(`${name}=${result}`),
    });
  const end = (name: string, result = 0) => {
    ends.get(name)?.(result);
    ends.delete(name);
  };
  return { lanes: Array.from({ length: laneCount }, () => pool.openLane()), started, ended, run, end };
}

describe("the I/O pool", () => {
  it("leaves a thread to the process, and one to other disks", () => {
    const { lanes, started, run } = setUp(4, 2);
    const [slow, other] = lanes as [IoLane, IoLane];
    for (const name of ["a", "b", "c", "d"]) run(slow, name);
    expect(started).toEqual(["a", "b"]);
    run(other, "x");
    run(other, "y");
    expect(started).toEqual(["a", "b", "x"]);
  });

  it("takes lanes in turn, and each in order", () => {
    const { lanes, started, run, end } = setUp(2, 2);
    const [first, second] = lanes as [IoLane, IoLane];
    for (const name of ["a", "b", "c"]) run(first, name);
    for (const name of ["x", "y"]) run(second, name);
    for (let i = 0; i < 5; i++) end(started.at(-1) ?? "");
    expect(started).toEqual(["a", "x", "b", "y", "c"]);
  });

  it("passes results on, also of operations that end at once or run others", () => {
    const { lanes, ended, run, end } = setUp(2, 1);
    const [lane] = lanes as [IoLane];
    run(lane, "a");
    end("a", -5);
    lane.run({
      start: (done) => done(7),
      ended: (result) => {
        ended.push(`now=${result}`);
        run(lane, "b");
      },
    });
    end("b", 3);
    expect(ended).toEqual(["a=-5", "now=7", "b=3"]);
  });

  it("works on one thread", () => {
    const { lanes, started, run, end } = setUp(1, 1);
    const [lane] = lanes as [IoLane];
    run(lane, "a");
    run(lane, "b");
    expect(started).toEqual(["a"]);
    end("a");
    expect(started).toEqual(["a", "b"]);
  });

  it("closes a lane when all of it is done", async () => {
    const { lanes, run, end } = setUp(2, 1);
    const [lane] = lanes as [IoLane];
    run(lane, "a");
    run(lane, "b");
    let closed = false;
    const closing = lane.close().then(() => {
      closed = true;
    });
    end("a");
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    end("b");
    await closing;
    expect(closed).toBe(true);
  });
});
