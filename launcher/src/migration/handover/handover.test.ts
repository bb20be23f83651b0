import { describe, expect, it } from "@jest/globals";
import {
  decideHandOver,
  type HandOverDecision,
  type SourcePhase,
  type SourceView,
  type TargetPhase,
  type TargetView,
} from "../../../api/migration.ts";
import { Phases } from "./phases.ts";
import { type SourceEvent, sourceRuns, sourceTransitions } from "./source-states.ts";
import { type TargetEvent, targetRuns, targetTransitions } from "./target-states.ts";

/** One moment of a migration. Messages are in order; a link that is cut loses all that are on their way. */
interface World {
  readonly source: SourcePhase | "dead";
  readonly target: TargetPhase | "dead";
  readonly toTarget: readonly ("hello" | "last pass" | "commit" | "abort")[];
  readonly toSource: readonly ("welcome" | "prepared" | "running" | "refused")[];
  readonly link: "up" | "down";
  /** What each end has noticed of a link that is down. */
  readonly sourceKnows: boolean;
  readonly targetKnows: boolean;
  /** Once it has all, it does not notice that its source is gone: one that speaks to a source of an older protocol, say. */
  readonly targetIsDeaf: boolean;
  readonly decision: HandOverDecision | null;
  /** The arbiter cannot reach them for a while. */
  readonly sourceHidden: boolean;
  readonly targetHidden: boolean;
  readonly faultsLeft: number;
}

const start: World = {
  source: "Connecting",
  target: "Listening",
  toTarget: ["hello"],
  toSource: [],
  link: "up",
  sourceKnows: false,
  targetKnows: false,
  targetIsDeaf: false,
  decision: null,
  sourceHidden: false,
  targetHidden: false,
  faultsLeft: 2,
};

function sourceTakes(world: World, event: SourceEvent): World | null {
  if (world.source === "dead") return null;
  const next = sourceTransitions[world.source][event];
  return next === undefined ? null : { ...world, source: next };
}

function targetTakes(world: World, event: TargetEvent): World | null {
  if (world.target === "dead") return null;
  const next = targetTransitions[world.target][event];
  return next === undefined ? null : { ...world, target: next };
}

const sends = (world: World | null, message: World["toTarget"][number]): World | null =>
  world && (world.link === "up" ? { ...world, toTarget: [...world.toTarget, message] } : world);
const answers = (world: World | null, message: World["toSource"][number]): World | null =>
  world && (world.link === "up" ? { ...world, toSource: [...world.toSource, message] } : world);

function sourceReceives(world: World): World | null {
  const [message, ...toSource] = world.toSource;
  if (message === undefined || world.source === "dead") return null;
  const rest = { ...world, toSource };
  switch (message) {
    case "welcome":
      return sourceTakes(rest, "welcomed") ?? rest;
    case "prepared":
      return sends(sourceTakes(rest, "prepared"), "commit") ?? rest;
    case "running":
      return sourceTakes(rest, "running") ?? rest;
    case "refused":
      return sourceTakes(rest, "failed") ?? rest;
  }
}

function targetReceives(world: World): World | null {
  const [message, ...toTarget] = world.toTarget;
  if (message === undefined || world.target === "dead") return null;
  const rest = { ...world, toTarget };
  switch (message) {
    case "hello":
      return answers(targetTakes(rest, "welcomed"), "welcome") ?? rest;
    case "last pass":
      return answers(targetTakes(rest, "prepared"), "prepared") ?? rest;
    case "commit":
      return answers(targetTakes(rest, "commit"), "running") ?? rest;
    case "abort":
      return targetTakes(rest, "failed") ?? rest;
  }
}

/** What the arbiter does next: it looks, records, and tells. */
function arbiterActs(world: World): World[] {
  const source: SourceView = world.source === "dead" ? "gone" : world.sourceHidden ? "unreachable" : world.source;
  const target: TargetView = world.target === "dead" ? "gone" : world.targetHidden ? "unreachable" : world.target;
  const { decision } = world;
  if (decision === null) {
    const decided = decideHandOver(source, target);
    return decided === null ? [] : [{ ...world, decision: decided }];
  }
  const event = ({ source: "decidedSource", target: "decidedTarget", neither: "decidedNeither" } as const)[decision];
  const told: World[] = [];
  const targetTold = target === "unreachable" ? null : targetTakes(world, event);
  if (targetTold && targetTold.target !== world.target) told.push(targetTold);
  const mayTellSource = decision !== "source" || target === "Failed" || target === "gone";
  const sourceTold = source === "unreachable" || !mayTellSource ? null : sourceTakes(world, event);
  if (sourceTold && sourceTold.source !== world.source) told.push(sourceTold);
  return told;
}

/** Steps that come by themselves, sooner or later. */
function steps(world: World): World[] {
  const found: (World | null)[] = [sourceReceives(world), targetReceives(world), ...arbiterActs(world)];
  if (world.source === "Copying") found.push(sends(sourceTakes(world, "frozen"), "last pass"));
  if (world.link === "down") {
    // What came before the end of the link is read before it.
    if (!world.sourceKnows && world.toSource.length === 0) {
      const noticed = { ...world, sourceKnows: true };
      found.push(sourceTakes(noticed, "linkLost") ?? sourceTakes(noticed, "failed") ?? noticed);
    }
    // A target that nobody calls waits for ever; who made it takes it away.
    const hears = !(world.targetIsDeaf && world.target === "Prepared");
    if (hears && !world.targetKnows && world.toTarget.length === 0) {
      const noticed = { ...world, targetKnows: true };
      found.push(targetTakes(noticed, "linkLost") ?? noticed);
    }
  }
  if (world.sourceHidden) found.push({ ...world, sourceHidden: false });
  if (world.targetHidden) found.push({ ...world, targetHidden: false });
  return found.filter((each) => each !== null);
}

const cut = (world: World): World => ({ ...world, link: "down", toTarget: [], toSource: [] });

/** What may go wrong. A side that dies takes its end of the link with it; what it sent before may still arrive. */
function faults(world: World): World[] {
  if (world.faultsLeft === 0) return [];
  const less = { ...world, faultsLeft: world.faultsLeft - 1 };
  const found: (World | null)[] = [];
  if (world.link === "up") {
    found.push(cut(less), { ...cut(less), toTarget: world.toTarget }, { ...cut(less), toSource: world.toSource });
  }
  const parted = { link: "down" as const };
  if (world.source !== "dead") {
    found.push({ ...cut(less), source: "dead" }, { ...less, ...parted, toSource: [], source: "dead" });
    if (sourceRuns(world.source) || world.source === "HandingOver")
      found.push(sends(sourceTakes(less, "failed"), "abort"));
    found.push({ ...less, sourceHidden: true });
  }
  if (world.target !== "dead") {
    found.push({ ...cut(less), target: "dead" }, { ...less, ...parted, toTarget: [], target: "dead" });
    if (world.target === "Receiving") found.push(answers(targetTakes(less, "failed"), "refused"));
    found.push({ ...less, targetHidden: true });
  }
  return found.filter((each) => each !== null);
}

function runners(world: World): string[] {
  const found: string[] = [];
  if (world.source !== "dead" && sourceRuns(world.source)) found.push("source");
  if (world.target !== "dead" && targetRuns(world.target)) found.push("target");
  return found;
}

function explore(): { all: World[]; last: World[] } {
  const seen = new Map([start, { ...start, targetIsDeaf: true }].map((world) => [JSON.stringify(world), world]));
  const last: World[] = [];
  for (const world of seen.values()) {
    const next = steps(world);
    if (next.length === 0) last.push(world);
    for (const each of [...next, ...faults(world)]) {
      const key = JSON.stringify(each);
      if (!seen.has(key)) seen.set(key, each);
    }
  }
  return { all: [...seen.values()], last };
}

describe("a hand-over", () => {
  const { all, last } = explore();

  it("never has two that run, whatever is lost, dies or is cut, whenever", () => {
    expect(all.length).toBeGreaterThan(500);
    expect(all.filter((world) => runners(world).length > 1)).toEqual([]);
  });

  it("always comes to an end: one runs, or the machine starts afresh since one that had it died", () => {
    const isSettled = (world: World) => {
      if (runners(world).length === 1) return true;
      const bothOver = world.source === "dead" || world.source === "Gone";
      const targetOver = world.target === "dead" || world.target === "Failed" || world.target === "Listening";
      const somebodyDied = world.source === "dead" || world.target === "dead";
      return bothOver && targetOver && somebodyDied;
    };
    expect(last.length).toBeGreaterThan(20);
    expect(last.filter((world) => !isSettled(world))).toEqual([]);
  });

  it("needs nobody's decision while nothing goes wrong", () => {
    let world = start;
    for (let next = steps(world); next.length > 0; next = steps(world)) world = next[0] ?? world;
    expect([world.source, world.target]).toEqual(["Gone", "Running"]);
  });

  it("leaves no source that lives stopped and undecided", () => {
    const stuck: readonly World["source"][] = ["HandingOver", "Committed", "Undecided"];
    expect(last.filter(({ source }) => stuck.includes(source))).toEqual([]);
  });

  it("refuses what cannot happen in a phase", () => {
    const phases = new Phases(sourceTransitions, "Committed");
    expect(phases.may("failed")).toBe(false);
    expect(() => phases.take("failed")).toThrow('"failed" cannot happen while a migration is Committed');
    phases.take("running");
    expect(phases.current).toBe("Gone");
  });
});
