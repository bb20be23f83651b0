import { existsSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { decideHandOver, type HandOverDecision, type SourcePhase, type TargetPhase } from "../../api/migration.ts";
import { until } from "../testing/until.ts";
import { frameTypeOf, MEMORY_FRAME } from "./protocol.ts";
import { begin, gone, MigrationLab, migrationOf, RELAY_ADDRESS, reaches } from "./testing/migration-lab.ts";
import type { RealLauncher } from "./testing/real-launcher.ts";
import type { RelayedFrame, RelayVerdict } from "./testing/tls-relay.ts";

let lab: MigrationLab;
let machines = 0;
beforeEach(async () => {
  machines = 0;
  lab = await MigrationLab.make();
});
afterEach(() => lab[Symbol.dispose]());

const overlayOf = (of: RealLauncher) => `${of.directory}-scratch`;

/** One of two places of a machine with an empty disk, which is copied. */
async function place(): Promise<RealLauncher> {
  const path = join(lab.directory, `launcher-${++machines}-scratch`);
  const disk: DiskConfig = {
    name: "scratch",
    readOnly: false,
    queues: 1,
    source: { kind: "empty", path, sizeBytes: 1 << 20 },
  };
  const launcher = await lab.launcher({ disks: [disk] });
  expect(overlayOf(launcher)).toBe(path);
  return launcher;
}

async function source(): Promise<RealLauncher> {
  const launcher = await (await place()).start();
  await launcher.attach();
  await launcher.said("READY");
  await launcher.ask("blkwrite 0 5 77", "blkwrite status 0");
  return launcher;
}

const runsStill = async (of: RealLauncher) => {
  await of.ask("blkread 0 5", "blkread status 0 data 0x4d\r\n");
  expect((await of.status()).state).toBe("Running");
};

/** Starts a migration by way of a relay, which asks `meddle` about each frame; memory follows disks on one connection. */
async function migrate(
  from: RealLauncher,
  to: RealLauncher,
  meddle: (frame: RelayedFrame) => RelayVerdict | undefined,
) {
  const relay = await lab.relay(to, (frame) => meddle(frame) ?? [frame.bytes]);
  expect((await begin(from, to, { address: RELAY_ADDRESS, connections: 1 })).status).toBe(202);
  return relay;
}

const isControl = (frame: RelayedFrame, name: Parameters<typeof frameTypeOf>[0]) =>
  frame.channel === "control" && frame.type === frameTypeOf(name);
const isMemory = (frame: RelayedFrame, name: keyof typeof MEMORY_FRAME) =>
  frame.channel === "memory" && frame.type === MEMORY_FRAME[name];

/** Does `once` with the first frame that it is about, and leaves the others alone. */
function first(isIt: (frame: RelayedFrame) => boolean, once: (frame: RelayedFrame) => RelayVerdict) {
  let isDone = false;
  return (frame: RelayedFrame) => {
    if (isDone || !isIt(frame)) return undefined;
    isDone = true;
    return once(frame);
  };
}

/** The one that is killed neither hears what is on its way to it, nor is heard. */
function killed(victim: RealLauncher): RelayVerdict {
  victim.signal("SIGKILL");
  return "cut";
}

/** What is sent, in this order, before Commit. */
const steps = [
  ["hello", (frame: RelayedFrame) => isControl(frame, "hello")],
  ["welcome", (frame: RelayedFrame) => isControl(frame, "welcome")],
  ["a disk's blocks", (frame: RelayedFrame) => isMemory(frame, "blocks")],
  ["memory", (frame: RelayedFrame) => isMemory(frame, "pages")],
  ["the end of a pass", (frame: RelayedFrame) => isMemory(frame, "passEnd")],
  ["the word that a pass has come", (frame: RelayedFrame) => isControl(frame, "passReceived")],
  ["the state", (frame: RelayedFrame) => isControl(frame, "state")],
  ["prepared", (frame: RelayedFrame) => isControl(frame, "prepared")],
] as const satisfies readonly (readonly [string, (frame: RelayedFrame) => boolean])[];

describe("a target that is killed", () => {
  it("at any step before Commit leaves the machine running where it is, which has nothing more than before", async () => {
    await using here = await source();
    const { descriptors } = here.possessions;
    // Node's own threads come with the first work for them.
    let threads = Number.POSITIVE_INFINITY;
    for (const [name, isIt] of steps) {
      await using there = await (await place()).start("--receive");
      await using _relay = await migrate(
        here,
        there,
        first(isIt, () => killed(there)),
      );
      expect([name, (await reaches(here, "Failed")).message]).toEqual([
        name,
        expect.stringContaining("the machine runs on here"),
      ]);
      await runsStill(here);
      const isLean = () =>
        here.possessions.threads <= threads && isDeepStrictEqual(here.possessions.descriptors, descriptors);
      await until(isLean).catch(() => {});
      const { possessions } = here;
      expect([name, possessions.descriptors, possessions.children]).toEqual([name, descriptors, []]);
      expect(possessions.threads).toBeLessThanOrEqual(threads);
      if (threads === Number.POSITIVE_INFINITY) threads = possessions.threads;
    }
    await using there = await (await place()).start("--receive");
    await begin(here, there);
    await gone(here);
    await there.attach();
    await runsStill(there);
  });

  it("once it runs leaves a source that stays stopped, and ends by decision", async () => {
    const here = await source();
    const there = await (await place()).start("--receive");
    const isRunning = (frame: RelayedFrame) => isControl(frame, "running");
    await using _relay = await migrate(
      here,
      there,
      first(isRunning, () => killed(there)),
    );
    await reaches(here, "Undecided");
    expect((await here.status()).state).toBe("Paused");
    expect(decideHandOver("Undecided", "gone")).toBe("neither");
    expect((await here.call("POST", "/v1/migration/decide", { winner: "neither" })).status).toBe(200);
    expect((await here.ended()).termination?.reason).toBe("Migrated");
  });
});

describe("a source that is killed", () => {
  it("before it has said hello leaves a target that waits on, for whoever comes", async () => {
    const here = await source();
    await using there = await (await place()).start("--receive");
    await using _relay = await migrate(
      here,
      there,
      first(steps[0][1], () => killed(here)),
    );
    await here.ended();
    expect(await migrationOf(there)).toMatchObject({ phase: "Listening" });
    await using other = await source();
    await begin(other, there);
    await gone(other);
    await there.attach();
    await runsStill(there);
  });

  it.each(steps.slice(1, -1))(
    "at %s leaves a target that ends, with nothing of the machine, and never ran it",
    async (_name, isIt) => {
      const here = await source();
      await using there = await (await place()).start("--receive");
      await using _relay = await migrate(
        here,
        there,
        first(isIt, () => killed(here)),
      );
      const { exitCode, termination } = await there.ended();
      expect([exitCode === 0, termination?.reason]).toEqual([false, "StateInvalid"]);
      expect(there.output).not.toContain("the machine runs here");
      expect(existsSync(overlayOf(there))).toBe(false);
    },
  );

  it("before it hears that all is there leaves a target that waits, and ends by decision with nothing of the machine", async () => {
    const here = await source();
    await using there = await (await place()).start("--receive");
    const isPrepared = (frame: RelayedFrame) => isControl(frame, "prepared");
    await using _relay = await migrate(
      here,
      there,
      first(isPrepared, () => killed(here)),
    );
    await reaches(there, "Undecided");
    expect((await there.status()).state).toBe("Starting");
    expect(decideHandOver("gone", "Undecided")).toBe("neither");
    expect((await there.call("POST", "/v1/migration/decide", { winner: "neither" })).status).toBe(200);
    await there.ended();
    expect(existsSync(overlayOf(there))).toBe(false);
  });

  it("once Commit is heard leaves the target running, alone, which has nothing more than one that was never moved", async () => {
    const here = await source();
    await using there = await (await place()).start("--receive");
    const isRunning = (frame: RelayedFrame) => isControl(frame, "running");
    await using _relay = await migrate(
      here,
      there,
      first(isRunning, () => killed(here)),
    );
    await reaches(there, "Running");
    await there.attach();
    await runsStill(there);
    await using alone = await source();
    const descriptors = ({ possessions }: RealLauncher) =>
      possessions.descriptors.map((each) => each.replace(/launcher-\d+/, ""));
    const isLean = () => there.possessions.threads <= alone.possessions.threads;
    await until(() => isLean() && isDeepStrictEqual(descriptors(there), descriptors(alone))).catch(() => {});
    expect(descriptors(there)).toEqual(descriptors(alone));
    expect(isLean()).toBe(true);
    expect(there.possessions.children).toEqual([]);
  });
});

describe("before Commit a machine runs on where it is", () => {
  it("when the link is cut at any step", async () => {
    await using here = await source();
    for (const [name, isIt] of steps.filter(([each]) => each !== "hello")) {
      await using there = await (await place()).start("--receive");
      await using _relay = await migrate(
        here,
        there,
        first(isIt, () => "cut"),
      );
      await reaches(here, "Failed");
      await runsStill(here);
      if (name === "prepared") {
        await reaches(there, "Undecided");
        expect(decideHandOver("Failed", "Undecided")).toBe("source");
        expect((await there.call("POST", "/v1/migration/decide", { winner: "source" })).status).toBe(200);
        await there.ended();
      } else {
        const { exitCode, termination } = await there.ended();
        expect([name, exitCode === 0, termination?.reason]).toEqual([name, false, "StateInvalid"]);
      }
      expect([name, existsSync(overlayOf(there))]).toEqual([name, false]);
    }
  });

  it("when what comes of a disk is damaged, cut short or out of turn; what comes twice does no harm", async () => {
    await using here = await source();
    const damaged = ({ bytes }: RelayedFrame) => {
      const other = Buffer.from(bytes);
      other[other.length - 1] = (other.at(-1) ?? 0) ^ 1;
      return [other];
    };
    const beyond = ({ bytes }: RelayedFrame) => {
      const other = Buffer.from(bytes);
      other.writeUInt32LE(1 << 20, 8);
      return [other];
    };
    const isBlocks = (frame: RelayedFrame) => isMemory(frame, "blocks");
    const faults: readonly (readonly [
      RegExp,
      (frame: RelayedFrame) => boolean,
      (frame: RelayedFrame) => RelayVerdict,
    ])[] = [
      [/of disk scratch at 0 is damaged/, isBlocks, damaged],
      [/disk scratch has 1048576 bytes: 1048576\+\d+ is no part of it/, isBlocks, beyond],
      [/damaged|memory frame|no part of it/, isBlocks, ({ bytes }) => [bytes.subarray(0, bytes.length - 100)]],
      [/end of pass 0/, (frame) => isMemory(frame, "passEnd"), ({ bytes }) => [bytes, bytes]],
    ];
    for (const [says, isIt, meddle] of faults) {
      await using there = await (await place()).start("--receive");
      await using _relay = await migrate(here, there, first(isIt, meddle));
      expect((await reaches(here, "Failed")).message).toMatch(says);
      await runsStill(here);
      expect((await there.ended()).exitCode).not.toBe(0);
      expect(existsSync(overlayOf(there))).toBe(false);
    }
    await using there = await (await place()).start("--receive");
    await using _relay = await migrate(here, there, (frame) =>
      isBlocks(frame) ? [frame.bytes, frame.bytes] : undefined,
    );
    await gone(here);
    await there.attach();
    await runsStill(there);
  });
});

describe("at Commit", () => {
  const isCommit = (frame: RelayedFrame) => isControl(frame, "commit");
  const phases = async (here: RealLauncher, there: RealLauncher) =>
    decideHandOver((await migrationOf(here)).phase as SourcePhase, (await migrationOf(there)).phase as TargetPhase);
  const decide = async (of: RealLauncher, winner: HandOverDecision) =>
    (await of.call("POST", "/v1/migration/decide", { winner })).status;

  it("a link that breaks before it leaves neither running until it is decided, and the decision's one runs", async () => {
    const here = await source();
    await using there = await (await place()).start("--receive");
    await using _relay = await migrate(
      here,
      there,
      first(isCommit, () => "cut"),
    );
    await reaches(here, "Undecided");
    await reaches(there, "Undecided");
    expect([(await here.status()).state, (await there.status()).state]).toEqual(["Paused", "Starting"]);
    expect((await here.call("POST", "/v1/migration/cancel")).status).toBe(409);
    expect(await phases(here, there)).toBe("target");
    expect(await decide(there, "target")).toBe(200);
    expect(await decide(here, "target")).toBe(200);
    expect((await here.ended()).termination?.reason).toBe("Migrated");
    await there.attach();
    await runsStill(there);
  });

  it("a link that breaks behind it leaves the target alone running", async () => {
    const here = await source();
    await using there = await (await place()).start("--receive");
    await using _relay = await migrate(
      here,
      there,
      first(isCommit, () => "cutBehind"),
    );
    await reaches(there, "Running");
    await reaches(here, "Undecided");
    expect([(await here.status()).state, await phases(here, there)]).toEqual(["Paused", "target"]);
    expect(await decide(here, "target")).toBe(200);
    expect((await here.ended()).termination?.reason).toBe("Migrated");
    await there.attach();
    await runsStill(there);
  });

  it("a target that dies with it leaves the source stopped, and what is left ends by decision", async () => {
    const here = await source();
    const there = await (await place()).start("--receive");
    const kill = () => {
      there.signal("SIGKILL");
      return "cut" as const;
    };
    await using _relay = await migrate(here, there, first(isCommit, kill));
    await reaches(here, "Undecided");
    expect((await here.status()).state).toBe("Paused");
    expect(decideHandOver("Undecided", "gone")).toBe("neither");
    expect(await decide(here, "neither")).toBe(200);
    expect((await here.ended()).termination?.reason).toBe("Migrated");
  });

  it("a source that dies with it leaves the target waiting, which ends by decision and leaves nothing", async () => {
    const here = await source();
    const there = await (await place()).start("--receive");
    const kill = () => {
      here.signal("SIGKILL");
      return "cut" as const;
    };
    await using _relay = await migrate(here, there, first(isCommit, kill));
    await reaches(there, "Undecided");
    expect((await there.status()).state).toBe("Starting");
    expect(decideHandOver("gone", "Undecided")).toBe("neither");
    expect(await decide(there, "neither")).toBe(200);
    await until(() => !existsSync(overlayOf(there)));
    await there.ended();
  });
});
