/** By then a guest has booted, and what starting needed is garbage. */
const SETTLE_AFTER_MS = 15_000;

/**
 * Gives back, once, what starting left in the heap: 2 MiB of some 18, for 30 ms of processor time. V8 by itself never
 * shrinks a heap that stays idle. Needs node --expose-gc, and does nothing without.
 */
export function settleHeapLater(): void {
  setTimeout(
    () => globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" }),
    SETTLE_AFTER_MS,
  ).unref();
}
