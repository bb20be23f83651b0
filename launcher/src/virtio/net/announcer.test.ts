import { afterEach, beforeEach, expect, it, jest } from "@jest/globals";
import { Announcer } from "./announcer.ts";

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

const frames = [Uint8Array.of(1), Uint8Array.of(2)];

it("frames are announced at once and four times more, further and further apart", () => {
  const sent: number[] = [];
  const announcer = new Announcer(frames, ([first = 0]) => void sent.push(first));
  announcer.start();
  expect(sent).toEqual([1, 2]);
  const counts = [49, 1, 149, 1, 249, 1, 349, 1, 100_000].map((ms) => {
    jest.advanceTimersByTime(ms);
    return sent.length / 2;
  });
  expect(counts).toEqual([1, 2, 2, 3, 3, 4, 4, 5, 5]);
});

it("nothing more is announced once the interface is gone", () => {
  let sent = 0;
  const announcer = new Announcer(frames, () => void sent++);
  announcer.start();
  announcer[Symbol.dispose]();
  jest.advanceTimersByTime(10_000);
  expect(sent).toBe(2);
});
