import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { Heartbeat, StallWatch } from "./heartbeat.ts";

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

const pace = { beatMs: 1000, silentBeats: 3 };

function listening() {
  const said: string[] = [];
  return { said, listener: { beat: () => void said.push("beat"), silent: () => void said.push("silent") } };
}

describe("a heartbeat", () => {
  it("says at each beat that it is alive, and once that nothing was heard for too long", () => {
    const { said, listener } = listening();
    using _heart = new Heartbeat(pace, listener);
    jest.advanceTimersByTime(3000);
    expect(said).toEqual(["beat", "beat", "beat"]);
    jest.advanceTimersByTime(10_000);
    expect(said).toEqual(["beat", "beat", "beat", "silent"]);
  });

  it("takes whatever comes for a sign of life", () => {
    const { said, listener } = listening();
    using heart = new Heartbeat(pace, listener);
    for (let round = 0; round < 10; round++) {
      jest.advanceTimersByTime(3000);
      heart.heard();
    }
    expect(said).toHaveLength(30);
    expect(said).not.toContain("silent");
  });

  it("ends with the link that it is of", () => {
    const { said, listener } = listening();
    new Heartbeat(pace, listener)[Symbol.dispose]();
    jest.advanceTimersByTime(60_000);
    expect(said).toEqual([]);
  });
});

it("a pass that gets no further for so many beats is noticed, and one that does is not, however slow", () => {
  const watch = new StallWatch({ idleBeats: 3 });
  const marks = [
    [1, 5],
    [1, 5],
    [1, 5],
    [2, 5],
    [2, 5],
    [2, 5],
    [2, 6],
    [2, 6],
    [2, 6],
    [2, 6],
    [2, 7],
  ];
  expect(marks.map((each) => watch.isStalled(each)).map((isStalled, beat) => (isStalled ? beat : -1))).toEqual(
    marks.map((_, beat) => (beat === 9 ? beat : -1)),
  );
});
