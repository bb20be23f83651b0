import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { decideHandOver, type SourcePhase, type TargetPhase } from "../../api/migration.ts";
import { TestMachine } from "../machine/testing/test-machine.ts";
import { until } from "../testing/until.ts";
import { sourceRuns } from "./handover/source-states.ts";
import { MIGRATION_LIMITS, type MigrationLimits } from "./limits.ts";
import { frameTypeOf, MEMORY_FRAME } from "./protocol.ts";
import type { MigrationTarget } from "./target.ts";
import { MigrationLab, RELAY_ADDRESS } from "./testing/migration-lab.ts";
import { type RelayedFrame, type RelayVerdict, TlsRelay } from "./testing/tls-relay.ts";

/** Both are in one process, which is busy: only who waits on purpose waits less than usual. */
const SHORT = { answerMs: 500, standstillMs: 3_000, beatMs: 100, silentBeats: 15, idleBeats: 20 };
const PLAN = {
  address: RELAY_ADDRESS,
  connections: 1,
  maxDowntimeMs: 300,
  deadlineMs: 60_000,
  bandwidthBytesPerSecond: 0,
  autoConverge: true,
};

let lab: MigrationLab;
let directory: string;
let source: TestMachine;
let places = 0;
beforeAll(async () => {
  lab = await MigrationLab.make();
  directory = mkdtempSync(join(tmpdir(), "migration-messages-"));
  source = await begun();
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  lab[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

/** Disks of one place that are copied: over an image, and empty. */
function disks(): DiskConfig[] {
  const at = join(directory, `place-${++places}`);
  const imageRoot = join(at, "image");
  mkdirSync(join(imageRoot, "disk"), { recursive: true });
  writeFileSync(join(imageRoot, "disk/disk.img"), new Uint8Array(1 << 20).fill(3));
  const common = { readOnly: false, queues: 1 };
  return [
    { name: "root", ...common, source: { kind: "image", imageRoot, overlayPath: join(at, "overlay") } },
    { name: "scratch", ...common, source: { kind: "empty", path: join(at, "scratch"), sizeBytes: 1 << 20 } },
  ];
}

async function begun(): Promise<TestMachine> {
  const made = await TestMachine.start({ disks: disks() });
  await made.console.ask("blkwrite 0 5 77", "blkwrite status 0");
  await made.console.ask("blkwrite 1 5 78", "blkwrite status 0");
  return made;
}

type Meddling = (frame: RelayedFrame) => RelayVerdict | undefined;

/** The source's machine, what became of its migration, and how. */
interface Outcome {
  readonly source: SourcePhase;
  readonly target: TargetPhase;
  readonly winner: "source" | "target";
  readonly message: string;
}

/** Moves the machine with `meddle` in between, decides as the operator would, and looks that it runs once. */
async function attempt(meddle: Meddling, limits: MigrationLimits = MIGRATION_LIMITS): Promise<Outcome> {
  const there = await TestMachine.make({ isIncoming: true, disks: disks(), keepLocalDisks: true });
  await using cleanup = new AsyncDisposableStack();
  const { target, port } = await lab.target(there, limits);
  const onFrame = (frame: RelayedFrame) => meddle(frame) ?? [frame.bytes];
  const ends = { address: RELAY_ADDRESS, targetAddress: "127.0.0.1", port, tls: lab.tls };
  cleanup.use(await new TlsRelay({ ...ends, onFrame }).listen());
  const here = source;
  const moving = lab.source(here, { ...PLAN, port }, limits);
  await moving.settled;
  const seen = { source: moving.phase, message: moving.status().message };
  const first = await settledTarget(target);
  const decision = decideHandOver(moving.phase, target.phase);
  if (decision !== null) {
    // The one that goes on is told last where that is the source, first where it is the target.
    if (target.phase !== "Running" && target.phase !== "Failed") await target.decide(decision);
    if (moving.phase === "Undecided") await moving.decide(decision);
  }
  const isThere = target.phase === "Running";
  expect([isThere, sourceRuns(moving.phase)]).toEqual([isThere, !isThere]);
  const [winner, loser] = isThere ? [there, here] : [here, there];
  await winner.console.ask("blkread 0 5", "blkread status 0 data 0x4d\r\n");
  await winner.console.ask("blkread 1 5", "blkread status 0 data 0x4e\r\n");
  expect(loser.machine.status().state).not.toBe("Running");
  if (target.phase === "Listening") await target.cancel();
  if (!isThere) await expect(target.running).rejects.toThrow();
  await loser[Symbol.asyncDispose]();
  source = winner;
  return { ...seen, target: first, winner: isThere ? "target" : "source" };
}

/** Its phase once nothing more comes of the link. */
async function settledTarget(target: MigrationTarget): Promise<TargetPhase> {
  await until(() => target.phase !== "Receiving" && target.phase !== "Prepared");
  return target.phase;
}

const isControl = (name: Parameters<typeof frameTypeOf>[0]) => (frame: RelayedFrame) =>
  frame.channel === "control" && frame.type === frameTypeOf(name);
const isMemory = (name: keyof typeof MEMORY_FRAME) => (frame: RelayedFrame) =>
  frame.channel === "memory" && frame.type === MEMORY_FRAME[name];

const lost = () => [];
const twice = ({ bytes }: RelayedFrame) => [bytes, bytes];
const short = ({ bytes }: RelayedFrame) => [bytes.subarray(0, bytes.length - 1)];
/** Of a control frame its checksum, of a memory frame its place. */
const damaged = ({ bytes, channel }: RelayedFrame) => {
  const other = Buffer.from(bytes);
  const at = channel === "control" ? 8 : MEMORY_OFFSET_AT;
  other[at] = (other[at] ?? 0) ^ 1;
  return [other];
};
const MEMORY_OFFSET_AT = 9;
const ways = {
  cut: () => "cut",
  lost,
  damaged,
  short,
  twice,
  stall: () => "stall",
  stallMemory: () => "stallMemory",
} satisfies Record<string, (frame: RelayedFrame) => RelayVerdict>;
type Way = keyof typeof ways;
/** Nobody says that something is wrong. */
const silently: readonly Way[] = ["lost", "short", "stall", "stallMemory"];

/** Does that to the first frame that it is about. */
async function attemptOnce(isIt: (frame: RelayedFrame) => boolean, way: Way): Promise<Outcome> {
  let isDone = false;
  const meddle = (frame: RelayedFrame) => {
    if (isDone || !isIt(frame)) return undefined;
    isDone = true;
    return ways[way](frame);
  };
  const outcome = await attempt(meddle, silently.includes(way) ? SHORT : MIGRATION_LIMITS);
  expect(isDone).toBe(true);
  return outcome;
}

describe("a machine whose launchers do not understand each other", () => {
  it("moves when nobody meddles", async () => {
    expect(await attempt(() => undefined)).toMatchObject({ source: "Gone", target: "Running", winner: "target" });
  });

  type Name = Parameters<typeof frameTypeOf>[0];
  const messages: readonly (readonly [Name, Way, "source" | "target" | "either"])[] = [
    ["hello", "damaged", "source"],
    ["hello", "twice", "source"],
    ["hello", "stall", "source"],
    ["welcome", "lost", "source"],
    ["welcome", "twice", "target"],
    ["wantDisks", "damaged", "source"],
    ["images", "twice", "source"],
    ["imagesMatch", "lost", "source"],
    ["passReceived", "short", "source"],
    ["passReceived", "stall", "source"],
    ["passReceived", "twice", "source"],
    ["state", "damaged", "source"],
    ["state", "twice", "either"],
    ["state", "stall", "source"],
    ["prepared", "cut", "source"],
    ["prepared", "lost", "source"],
    ["commit", "damaged", "target"],
    ["commit", "lost", "target"],
    ["commit", "twice", "target"],
    ["running", "cut", "target"],
    ["running", "lost", "target"],
  ];
  it.each(messages)("%s, %s: the machine goes on once, in the %s", async (name, way, winner) => {
    const outcome = await attemptOnce(isControl(name), way);
    if (winner !== "either") expect(outcome.winner).toBe(winner);
  });

  it.each([
    ["pages", "damaged"],
    ["blocks", "stall"],
    ["passEnd", "lost"],
  ] as const)("what is sent as %s, %s: it stays", async (name, way) => {
    expect((await attemptOnce(isMemory(name), way)).winner).toBe("source");
  });

  it("takes pages of memory that come twice", async () => {
    expect((await attempt((frame) => (isMemory("pages")(frame) ? twice(frame) : undefined))).winner).toBe("target");
  });
});

describe("a link that takes nothing any more", () => {
  it("is noticed while the guest runs, also by a side that waits", async () => {
    const outcome = await attemptOnce(isMemory("pages"), "stall");
    expect(outcome).toMatchObject({ source: "Failed", target: "Failed" });
    expect(outcome.message).toMatch(/nothing came from the other launcher for 1500 ms; the machine runs on here/);
  });

  it("is noticed where memory alone is held up", async () => {
    const { message } = await attemptOnce(isMemory("pages"), "stallMemory");
    expect(message).toMatch(/the target has got nothing more for 2000 ms; the machine runs on here/);
  });

  it("does not keep the guest standing still", async () => {
    const { message } = await attemptOnce(isControl("state"), "stallMemory");
    expect(message).toMatch(
      /the guest stood still for 3300 ms, and the target has not got all; the machine runs on here/,
    );
  });

  it("leaves both undecided at the last word, and then one runs", async () => {
    const undecided = { source: "Undecided", target: "Undecided", winner: "target" };
    expect(await attemptOnce(isControl("commit"), "stall")).toMatchObject(undecided);
  });
});
