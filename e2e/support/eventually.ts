import { setTimeout as delay } from "node:timers/promises";

/** Between two looks at a condition that nothing announces. */
const LOOK_AGAIN_MS = 100;

/**
 * Looks until `probe` answers something other than undefined, null or false, and answers that. An error thrown by
 * `probe` counts as "not yet" and is shown when the deadline passes.
 */
export async function eventually<T>(
  what: string,
  deadlineMs: number,
  probe: () => Promise<T | undefined | null | false>,
): Promise<T> {
  const end = Date.now() + deadlineMs;
  let last: unknown = "nothing";
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== null && answer !== false) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${deadlineMs} ms; last: ${String(last)}`);
    await delay(LOOK_AGAIN_MS);
  }
}
