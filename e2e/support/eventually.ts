import { waitFor } from "../../hack/lib/step.ts";

/**
 * Looks until `probe` answers something other than undefined, null or false, and answers that. An error thrown by
 * `probe` counts as "not yet" and is shown when the deadline passes.
 */
export async function eventually<T>(
  what: string,
  deadlineMs: number,
  probe: () => Promise<T | undefined | null | false>,
): Promise<T> {
  let last: unknown = "nothing";
  const ask = async () => {
    try {
      const answer = await probe();
      last = answer;
      return answer ?? undefined;
    } catch (error) {
      last = error;
      return undefined;
    }
  };
  return waitFor<T>(ask, { what, timeoutMs: deadlineMs }).catch((error: Error) => {
    throw new Error(`${error.message}; last: ${String(last)}`);
  });
}
