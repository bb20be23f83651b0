import { afterEach, beforeEach, expect, it, jest } from "@jest/globals";
import { settleHeap } from "./settle-heap.ts";

const collect = jest.fn();
const before = globalThis.gc;

beforeEach(() => {
  jest.useFakeTimers();
  globalThis.gc = collect as unknown as NonNullable<typeof globalThis.gc>;
});
afterEach(() => {
  jest.useRealTimers();
  globalThis.gc = before;
});

it("collects garbage a minute after the start, and every ten minutes until it is stopped", () => {
  const settling = settleHeap();
  jest.advanceTimersByTime(59_000);
  expect(collect).not.toHaveBeenCalled();
  jest.advanceTimersByTime(1_000);
  expect(collect).toHaveBeenCalledTimes(1);
  jest.advanceTimersByTime(19 * 60_000);
  expect(collect).toHaveBeenCalledTimes(3);
  settling[Symbol.dispose]();
  jest.advanceTimersByTime(60 * 60_000);
  expect(collect).toHaveBeenCalledTimes(3);
});
