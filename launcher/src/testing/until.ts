/** Waits for a condition that other turns of the event loop bring about; the test's own deadline is the limit. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((turn) => setTimeout(turn, 1));
}
