import { join } from "node:path";
import { afterAll, describe, expect, it } from "@jest/globals";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { readState } from "../../hack/dev-cluster/state.ts";
import { builtInName } from "../../hack/first-run/built-in-target.ts";
import { run, succeeds } from "../../hack/lib/step.ts";

const root = join(import.meta.dirname, "..", "..");
/** Everything is built when it is the first time on a machine. */
const FIRST_TIME_MS = 40 * 60_000;

describe("hack/quickstart", () => {
  const quickstart = (...args: string[]) =>
    run([join(root, "hack/quickstart"), ...args], { timeoutMs: FIRST_TIME_MS, echo: true });
  const podUid = () =>
    run([
      ...[join(root, "hack/cluster"), "--name", builtInName],
      ...["kubectl", "get", "vm", "hello", "--output=jsonpath={.status.podUID} {.status.restarts}"],
    ]);

  afterAll(() => succeeds([join(root, "hack/quickstart"), "--down"], { timeoutMs: 180_000 }));

  it(
    "goes from a checkout to the shell of a Debian kernel, changes nothing the second time, and removes all of it",
    async () => {
      const first = await quickstart();
      expect(first).toMatch(/The guest said while it booted:[\s\S]*Linux version \d/);
      expect(first).toMatch(/Its shell answered[\s\S]*Linux \S+ x86_64/);
      expect(first).toMatch(/hello\s+Running\s+True/);
      const before = await podUid();

      const second = await quickstart();
      expect(second).toMatch(/Its shell answered[\s\S]*Linux \S+ x86_64/);
      expect(await podUid()).toBe(before);

      await quickstart("--down");
      expect(await readState(layoutOf(builtInName))).toBeUndefined();
      expect(await run(["ip", "netns", "list"])).not.toContain(`typevisor-${builtInName}`);
    },
    FIRST_TIME_MS,
  );
});
