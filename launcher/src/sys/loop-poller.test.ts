import { describe, expect, it } from "@jest/globals";
import { LoopPoller } from "./loop-poller.ts";
import type { PollSource } from "./poll-source.ts";

const SETTINGS = { windowMs: 0.032, share: 1 };

/** An event loop whose time passes as it is looked at. */
class FakeLoop {
  nowMs = 0;
  /** Runs at each step of whoever is on the loop: where others may come in between. */
  atStep: () => void = () => {};
  readonly #calls: (() => void)[] = [];

  now(): number {
    this.step();
    this.nowMs += 0.0002;
    return this.nowMs;
  }

  later(call: () => void): void {
    this.#calls.push(call);
  }

  step(): void {
    this.atStep();
  }

  /** One turn: what was put off comes once. */
  turn(): boolean {
    const calls = this.#calls.splice(0);
    for (const call of calls) call();
    return calls.length > 0;
  }

  get turnsToCome(): number {
    return this.#calls.length;
  }
}

/** A queue as a driver and a device share it, which rings where it is asked to. */
class FakeQueue implements PollSource {
  isWatched = false;
  made = 0;
  done = 0;
  /** The event that the loop has not heard of yet. */
  hasRung = false;
  rings = 0;
  onDone: () => void = () => {};
  readonly #loop: FakeLoop;
  readonly #poller: LoopPoller;
  #isArmed = true;

  constructor(loop: FakeLoop, poller: LoopPoller) {
    this.#loop = loop;
    this.#poller = poller;
  }

  /** Of the driver: makes work, and rings if it is asked to. */
  make(): void {
    this.made++;
    if (!this.#isArmed) return;
    this.hasRung = true;
    this.rings++;
  }

  /** The loop hears of the event. */
  hear(): void {
    if (!this.hasRung) return;
    this.hasRung = false;
    if (this.isReady()) this.#poller.woken(this);
    this.run();
  }

  isReady(): boolean {
    this.#loop.step();
    return this.made > this.done;
  }

  run(): void {
    this.#isArmed = false;
    do {
      this.#loop.step();
      this.done = this.made;
      this.#loop.step();
    } while (this.isWatched ? this.made > this.done : this.rest());
    this.onDone();
  }

  rest(): boolean {
    this.#loop.step();
    this.#isArmed = true;
    this.#loop.step();
    return this.made > this.done;
  }
}

function setUp(settings = SETTINGS) {
  const loop = new FakeLoop();
  const poller = new LoopPoller(settings, loop);
  const queue = new FakeQueue(loop, poller);
  /** Work that comes soon after the last, as often as it takes for the poller to look. */
  const warmUp = () => {
    for (let i = 0; i < 50 && !queue.isWatched; i++) {
      while (loop.turn());
      queue.make();
      queue.hear();
    }
    expect(queue.isWatched).toBe(true);
  };
  /** Lets the loop do whatever it has heard of. */
  const settle = () => {
    for (let i = 0; i < 1000; i++) {
      queue.hear();
      if (!loop.turn() && !queue.hasRung) return;
    }
    throw new Error("the loop does not come to rest");
  };
  return { loop, poller, queue, warmUp, settle };
}

describe("a poller", () => {
  it("finds work without an event, as long as it comes soon", () => {
    const { loop, queue, warmUp } = setUp();
    warmUp();
    const { rings, made } = queue;
    let step = 0;
    loop.atStep = () => {
      if (step++ % 20 === 0 && queue.made < made + 1000) queue.make();
    };
    for (let turns = 0; queue.done < made + 1000; turns++) {
      expect(turns).toBeLessThan(100);
      loop.turn();
    }
    expect(queue.rings).toBe(rings);
  });

  it("sleeps when nothing comes: the idle cost nothing", () => {
    const { loop, queue, warmUp, settle } = setUp();
    warmUp();
    settle();
    expect([queue.isWatched, loop.turnsToCome]).toEqual([false, 0]);
    queue.make();
    expect(queue.hasRung).toBe(true);
  });

  it("loses no work, wherever in its way two pieces come", () => {
    /** Steps taken, with work at two of them. */
    const stepsWith = (...places: readonly number[]) => {
      const { loop, queue, warmUp, settle } = setUp();
      warmUp();
      let steps = 0;
      loop.atStep = () => {
        const at = steps++;
        for (const place of places) if (place === at) queue.make();
      };
      settle();
      if (queue.done !== queue.made || queue.isWatched)
        throw new Error(`work that came at steps ${places}: ${queue.done} of ${queue.made} done`);
      return steps;
    };
    const steps = stepsWith();
    expect(steps).toBeGreaterThan(20);
    for (let first = 0; first < steps; first++)
      for (let second = first; second < first + 2 * steps; second++) stepsWith(first, second);
  });

  it("lets all else have its turn while there is always work", () => {
    const { loop, queue, warmUp } = setUp();
    warmUp();
    queue.onDone = () => queue.made++;
    queue.made++;
    const before = loop.nowMs;
    loop.turn();
    expect(loop.nowMs - before).toBeLessThan(0.2);
    expect(loop.turnsToCome).toBe(1);
  });

  it("looks at what joins as well, and at nothing that has left", () => {
    const { loop, poller, queue, warmUp, settle } = setUp();
    const other = new FakeQueue(loop, poller);
    poller.join(other);
    expect(other.isWatched).toBe(false);
    warmUp();
    poller.join(other);
    expect(other.isWatched).toBe(true);
    other.made++;
    poller.leave(queue);
    queue.made++;
    settle();
    expect([other.made - other.done, queue.made - queue.done]).toEqual([0, 1]);
    expect([other.isWatched, queue.isWatched]).toEqual([false, false]);
  });

  it("does not touch what leaves while others come to rest", () => {
    const { loop, poller, queue, warmUp, settle } = setUp();
    const failing = new FakeQueue(loop, poller);
    warmUp();
    poller.join(failing);
    failing.onDone = () => poller.leave(queue);
    const { rest } = queue;
    let touched = 0;
    queue.rest = () => {
      touched++;
      return rest.call(queue);
    };
    // Work for the other one comes as it is asked for the last time.
    const restOfFailing = failing.rest;
    failing.rest = () => {
      failing.made++;
      failing.rest = restOfFailing;
      return true;
    };
    settle();
    expect([failing.done, touched, queue.isWatched]).toEqual([failing.made, 0, false]);
  });

  it("goes on when all have left before its turn, and one comes back", () => {
    const { loop, poller, queue, warmUp } = setUp();
    warmUp();
    poller.leave(queue);
    queue.make();
    queue.hear();
    expect(loop.turnsToCome).toBeLessThanOrEqual(1);
    while (loop.turn());
    expect(queue.isWatched).toBe(false);
  });

  it("comes to what accompanies it in between, and only as long as that is there", () => {
    const { loop, poller, queue, warmUp } = setUp();
    let exits = 0;
    const companion = poller.accompany({ isReady: () => true, run: () => void exits++ });
    warmUp();
    loop.turn();
    expect(exits).toBeGreaterThan(0);
    companion[Symbol.dispose]();
    const before = exits;
    queue.make();
    loop.turn();
    expect(exits).toBe(before);
  });

  it("says how long it looked", () => {
    const { poller, warmUp, settle } = setUp();
    warmUp();
    const before = poller.lookedMs;
    settle();
    expect(poller.lookedMs).toBeGreaterThan(before);
  });
});
