import { libc } from "../sys/libc.ts";

/** By then a guest has booted, and what starting needed is garbage. */
const SETTLE_AFTER_MS = 15_000;
const TRIM_EVERY_MS = 600_000;

/**
 * Gives back, once, what starting left in V8's heap: 2 MiB of some 18, for 30 ms of processor time. V8 by itself never
 * shrinks a heap that stays idle. Needs node --expose-gc, and does nothing without.
 *
 * And gives back, then and every ten minutes, what is free in the C library's heap, for 1 ms: 9 MiB once V8 has compiled
 * what probes and scrapes run, which the library by itself keeps below what is still in use.
 */
export function settleHeapLater(trim = trimHeap): void {
  setTimeout(() => {
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    trim();
    setInterval(trim, TRIM_EVERY_MS).unref();
  }, SETTLE_AFTER_MS).unref();
}

/** Gives back what is free in the C library's heap (malloc_trim(3)). */
export function trimHeap(): void {
  libc().malloc_trim(0);
}
