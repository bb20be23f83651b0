/** Waits until `check` gives something other than false, undefined or null; throws after `timeoutMs`. */
export async function until<T>(
  check: () => T | false | undefined | null | Promise<T | false | undefined | null>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== false && value !== undefined && value !== null) {
      return value;
    }
    if (performance.now() > deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${check}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
