import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { settleHeapLater, trimHeap } from "./settle-heap.ts";

describe("a launcher's heap", () => {
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

  it("is collected once, and trimmed then and every ten minutes", () => {
    const trim = jest.fn();
    settleHeapLater(trim);
    expect(collect).not.toHaveBeenCalled();
    jest.advanceTimersByTime(15_000);
    expect(collect).toHaveBeenCalledTimes(1);
    expect(trim).toHaveBeenCalledTimes(1);
    jest.advanceTimersByTime(20 * 60_000);
    expect(collect).toHaveBeenCalledTimes(1);
    expect(trim).toHaveBeenCalledTimes(3);
  });

  it("can be trimmed", () => {
    expect(trimHeap).not.toThrow();
  });
});
