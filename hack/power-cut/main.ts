/**
 * Cuts power at random moments while a guest writes through a journal, and looks whether all that the guest was told is
 * durable is there, and each sector whole: of a launcher on this machine (SIGKILL), or of the node that it runs in, as
 * hack/linux-lab has it. Build first for a node: hack/build launcher.
 *
 *   node hack/power-cut/main.ts [--of launcher,node] [--moments 50]
 */
import { parseArgs } from "node:util";
import { say } from "../lib/step.ts";
import { openLab } from "../linux-lab/open.ts";
import { type Cut, cutPower } from "./cut-power.ts";
import { LauncherVictim } from "./launcher-victim.ts";
import { NodeVictim } from "./node-victim.ts";

const { values } = parseArgs({
  options: { of: { type: "string", default: "launcher,node" }, moments: { type: "string", default: "50" } },
});
const moments = Number(values.moments);
const victims = values.of.split(",");
if (!(moments > 0) || !victims.every((name) => name === "launcher" || name === "node"))
  throw new RangeError("--of launcher, node or both; --moments above 0");

const cuts: Cut[] = [];
const told = (cut: Cut) => {
  cuts.push(cut);
  say(`${cut.disk}: transaction ${cut.acknowledged} acknowledged, ${cut.committed} committed`);
};
if (victims.includes("launcher"))
  for (const kind of ["Filesystem", "Block"] as const) {
    await using victim = new LauncherVictim(kind);
    await cutPower(victim, moments, told);
  }
if (victims.includes("node")) {
  const lab = await openLab();
  if (lab.kind !== "node") throw new Error("the lab is this machine itself, whose power is not cut");
  await cutPower(await NodeVictim.prepare(lab), moments, told);
}
const last = new Map(cuts.map((cut) => [cut.disk, cut.committed]));
say(
  `${cuts.length} disks after a power cut, nothing lost; last transactions: ${JSON.stringify(Object.fromEntries(last))}`,
);
