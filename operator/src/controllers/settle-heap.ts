const FIRST_AFTER_MS = 60_000;
const EVERY_MS = 600_000;

/**
 * Collects garbage a minute after the start, which leaves most of it, and every ten minutes: V8 by itself lets an idle
 * heap stay as large as it ever was, three times what a thousand machines need. Takes 50 ms of processor time then;
 * needs node --expose-gc, and does nothing without. Dispose to stop.
 */
export function settleHeap(): Disposable {
  const collect = () => void globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  const first = setTimeout(collect, FIRST_AFTER_MS).unref();
  const later = setInterval(collect, EVERY_MS).unref();
  return {
    [Symbol.dispose]: () => {
      clearTimeout(first);
      clearInterval(later);
    },
  };
}
