const DEADLINE_MS = 60_000;

/** Waits for a condition that other turns of the event loop bring about; throws when it takes far too long. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error(`the condition did not come: ${condition}`);
    await new Promise((turn) => setTimeout(turn, 1));
  }
}
