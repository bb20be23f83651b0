/** `minimum` for the first time, twice as long each time after it, never more than `maximum`. */
export function doubling(minimumMs: number, maximumMs: number, times: number): number {
  return Math.min(maximumMs, minimumMs * 2 ** Math.min(Math.max(0, times - 1), 30));
}
