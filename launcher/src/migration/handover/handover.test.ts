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
  /** It ran after it had stood still for the last pass, with memory and disks that the target knows nothing of. */
  readonly sourceWentOn: boolean;
  /** Likewise, be it that it died since. */
  readonly targetRan: boolean;
  /** What outlasts an operator: the mark of the new pod, and what the migration's status says. */
  readonly note: HandOverDecision | null;
  readonly record: HandOverDecision | null;
  /** One; two where the old one has not heard yet that it leads no more. Never none for long. */
  readonly operators: readonly Operator[];
  readonly calls: readonly Call[];
  /** Operators cannot reach them for a while. */
  readonly sourceHidden: boolean;
  readonly targetHidden: boolean;
  readonly faultsLeft: number;
}

/** What an operator has in mind, which goes with it: of ends and of what is kept, as it was when it looked. */
interface Operator {
  readonly source: SourceView;
  readonly target: TargetView;
  readonly note: HandOverDecision | null;
  readonly record: HandOverDecision | null;
}

interface Call {
  readonly to: "source" | "target";
  readonly decision: HandOverDecision;
}

const NEW_OPERATOR: Operator = { source: "unreachable", target: "unreachable", note: null, record: null };

const start: World = {
  source: "Connecting",
  target: "Listening",
  toTarget: ["hello"],
  toSource: [],
  link: "up",
  sourceKnows: false,
  targetKnows: false,
  targetIsDeaf: false,
  sourceWentOn: false,
  targetRan: false,
  note: null,
  record: null,
  operators: [NEW_OPERATOR],
  calls: [],
  sourceHidden: false,
  targetHidden: false,
  faultsLeft: 2,
};

function sourceTakes(world: World, event: SourceEvent): World | null {
  if (world.source === "dead") return null;
  const next = sourceTransitions[world.source][event];
  if (next === undefined) return null;
  const stoodStill = !sourceRuns(world.source);
  return { ...world, source: next, sourceWentOn: world.sourceWentOn || (stoodStill && sourceRuns(next)) };
}

function targetTakes(world: World, event: TargetEvent): World | null {
  if (world.target === "dead") return null;
  const next = targetTransitions[world.target][event];
  return next === undefined ? null : { ...world, target: next, targetRan: world.targetRan || targetRuns(next) };
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

/** What goes for either end that an operator looks at, as the operator's own views have it. */
const isStuck = (view: TargetView) => view === "Undecided" || view === "Prepared";
const isFinal = (view: TargetView) => view === "Running" || view === "Failed" || view === "gone";

const replaced = (world: World, which: number, changes: Partial<Operator>): World => ({
  ...world,
  operators: world.operators.map((each, i) => (i === which ? { ...each, ...changes } : each)),
});

/** Asks both ends, one at a time, and reads what is kept: each answer may be old before it is used. */
function operatorLooks(world: World, which: number): World[] {
  const mind = world.operators[which];
  if (mind === undefined) return [];
  const source: SourceView = world.source === "dead" ? "gone" : world.sourceHidden ? "unreachable" : world.source;
  const target: TargetView = world.target === "dead" ? "gone" : world.targetHidden ? "unreachable" : world.target;
  const found: World[] = [];
  if (source !== mind.source) {
    // What the target said before may be from before the last word of a source that is gone.
    const isOld = source === "gone" && !isFinal(mind.target);
    found.push(replaced(world, which, { source, ...(isOld && { target: "unreachable" }) }));
  }
  if (target !== mind.target) found.push(replaced(world, which, { target }));
  if (world.note !== mind.note) found.push(replaced(world, which, { note: world.note }));
  if (world.record !== mind.record) found.push(replaced(world, which, { record: world.record }));
  return found;
}

/** Notes a decision on the new pod, records it in the migration, tells the ends, and removes a target that is not to go on. */
function operatorActs(world: World, which: number): World[] {
  const mind = world.operators[which];
  if (mind === undefined) return [];
  const { source, target, note, record } = mind;
  if (record === null) {
    const needsNobody = target === "Running" && source !== "Undecided";
    const decision = note ?? (needsNobody ? null : decideHandOver(source, target));
    if (decision === null) return [];
    const isNoted = note === decision;
    return isNoted
      ? [replaced({ ...world, record: decision }, which, { record: decision })]
      : [replaced({ ...world, note: decision }, which, { note: decision })];
  }
  return [...told(world, mind), ...removed(world, mind)];
}

/** A call that is on its way, once; the answer is seen by looking. */
function told(world: World, { source, target, record }: Operator): World[] {
  const tells = (to: Call["to"]): World[] => {
    const isOnItsWay = world.calls.some((call) => call.to === to && call.decision === record);
    return isOnItsWay || record === null ? [] : [{ ...world, calls: [...world.calls, { to, decision: record }] }];
  };
  if (record !== "neither" && isStuck(target)) return tells("target");
  const mayTellSource =
    record === "neither" || target === "gone" || target === (record === "target" ? "Running" : "Failed");
  return source === "Undecided" && mayTellSource ? tells("source") : [];
}

/** A pod that is deleted is gone, whatever its launcher does just then. */
function removed(world: World, { source, target, record }: Operator): World[] {
  const hasStopped = source === "Failed" || source === "Gone" || source === "gone";
  const isUnwanted =
    record !== "target" && hasStopped && (target === "Failed" || (record === "neither" && isStuck(target)));
  return isUnwanted && world.target !== "dead" ? [{ ...cut(world), target: "dead" }] : [];
}

/** A call arrives, be it that who made it is no more. An end that cannot take it says so, and stays as it is. */
function callArrives(world: World): World[] {
  return world.calls.map((call) => {
    const rest = { ...world, calls: world.calls.filter((each) => each !== call) };
    const event = ({ source: "decidedSource", target: "decidedTarget", neither: "decidedNeither" } as const)[
      call.decision
    ];
    return (call.to === "source" ? sourceTakes(rest, event) : targetTakes(rest, event)) ?? rest;
  });
}

/** Steps that come by themselves, sooner or later. */
function steps(world: World): World[] {
  const found: (World | null)[] = [sourceReceives(world), targetReceives(world), ...callArrives(world)];
  for (const which of world.operators.keys()) found.push(...operatorLooks(world, which), ...operatorActs(world, which));
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
  for (const which of world.operators.keys()) {
    // What it has asked for is on its way, or is lost with it.
    found.push(replaced(less, which, NEW_OPERATOR), replaced({ ...less, calls: [] }, which, NEW_OPERATOR));
  }
  if (world.operators.length === 1) found.push({ ...less, operators: [...world.operators, NEW_OPERATOR] });
  return found.filter((each) => each !== null);
}

function runners(world: World): string[] {
  const found: string[] = [];
  if (world.source !== "dead" && sourceRuns(world.source)) found.push("source");
  if (world.target !== "dead" && targetRuns(world.target)) found.push("target");
  return found;
}

interface Explored {
  readonly all: readonly World[];
  /** Where nothing more happens by itself. */
  readonly last: readonly World[];
  /** From where none of these is reached, however long it goes on by itself. */
  readonly endless: readonly World[];
}

function explore(): Explored {
  const all: World[] = [];
  const numbers = new Map<string, number>();
  const before: number[][] = [];
  const numberOf = (world: World): number => {
    const key = JSON.stringify(Object.values(world));
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, all.length);
    before.push([]);
    return all.push(world) - 1;
  };
  for (const targetIsDeaf of [false, true]) numberOf({ ...start, targetIsDeaf });
  const last: number[] = [];
  // Grows meanwhile.
  for (const [number, world] of all.entries()) {
    const next = steps(world);
    if (next.length === 0) last.push(number);
    for (const each of next) before[numberOf(each)]?.push(number);
    for (const each of faults(world)) numberOf(each);
  }
  const ends = new Set(last);
  for (const number of ends) for (const each of before[number] ?? []) ends.add(each);
  return {
    all,
    last: last.map((number) => all[number] ?? start),
    endless: all.filter((_, number) => !ends.has(number)),
  };
}

describe("a hand-over", () => {
  const { all, last, endless } = explore();

  it("never has two that run, whatever is lost, dies or is cut, whenever, and whichever operator acts on what it knows", () => {
    expect(all.length).toBeGreaterThan(100_000);
    expect(all.find((world) => runners(world).length > 1)).toBeUndefined();
  });

  it("never has one go on with what the other has left behind", () => {
    const ofOld = ({ source, target, sourceWentOn, targetRan }: World) =>
      (targetRan && source !== "dead" && sourceRuns(source)) ||
      (sourceWentOn && target !== "dead" && targetRuns(target));
    expect(all.find(ofOld)).toBeUndefined();
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
    expect(endless[0]).toBeUndefined();
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
