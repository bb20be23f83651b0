import { join } from "node:path";
import { z } from "zod";

/** What a guest runs that must not notice that it moves: its first lines say what it does, and how it is started. */
export const loadProgram = join(import.meta.dirname, "load.pl");
/** Where it tells who connects what it has seen: a line of JSON. */
export const LOAD_PORT = 7000;

export const seen = z.object({
  boot: z.string(),
  memoryRounds: z.number(),
  memoryErrors: z.number(),
  ticks: z.number(),
  backward: z.number(),
  /** Between two looks at the clock, which are 10 ms apart, since it was last asked. */
  longestGapMs: z.number(),
  diskRounds: z.number(),
  diskErrors: z.number(),
  /** Lines of the kernel's log. */
  warnings: z.number(),
  /** Whether a part of the load has ended. */
  ended: z.number(),
});

/** What the load has seen since it began. */
export type Seen = z.infer<typeof seen>;

const FAULTS = ["memoryErrors", "backward", "diskErrors", "ended"] as const;

/** What has gone wrong between two answers of a guest, which has had time since the first. */
export function wrong(before: Seen, now: Seen, { judgesWarnings }: { readonly judgesWarnings: boolean }): string[] {
  const still = (["memoryRounds", "ticks", "diskRounds"] as const).filter((name) => now[name] <= before[name]);
  const never = judgesWarnings ? [...FAULTS, "warnings" as const] : FAULTS;
  const found = never.filter((name) => now[name] > 0);
  return [
    ...still.map((name) => `${name} stands still at ${now[name]}`),
    ...found.map((name) => `${name} is ${now[name]}`),
    ...(now.boot === before.boot ? [] : ["the guest was booted again"]),
  ];
}
