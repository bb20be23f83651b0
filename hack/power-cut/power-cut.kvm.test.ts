import { describe, expect, it } from "@jest/globals";
import { type Cut, cutPower } from "./cut-power.ts";
import { type DiskKind, LauncherVictim } from "./launcher-victim.ts";

/** `node hack/power-cut/main.ts` takes more. */
const MOMENTS = 5;

describe("a launcher that is killed while its guest writes", () => {
  it.each<DiskKind>(["Filesystem", "Block"])(
    "has lost nothing on a %s claim that the guest was told is durable, and torn no sector",
    async (kind) => {
      await using victim = new LauncherVictim(kind);
      const cuts: Cut[] = [];
      await cutPower(victim, MOMENTS, (cut) => cuts.push(cut));
      expect(cuts).toHaveLength(MOMENTS);
      expect(cuts.at(-1)?.committed).toBeGreaterThanOrEqual(cuts.at(-1)?.acknowledged ?? 0);
    },
  );
});
