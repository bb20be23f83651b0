import { existsSync } from "node:fs";
import { join } from "node:path";
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

/** Starts a migration by way of a relay, which asks `meddle` about each frame to the target; memory follows disks on one connection. */
async function migrate(
  from: RealLauncher,
  to: RealLauncher,
  meddle: (frame: RelayedFrame) => RelayVerdict | undefined,
) {
  const relay = await lab.relay(to, (frame) => (frame.to === "target" && meddle(frame)) || [frame.bytes]);
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

describe("before Commit a machine runs on where it is", () => {
  const steps: readonly (readonly [string, (frame: RelayedFrame) => boolean])[] = [
    ["hello", (frame) => isControl(frame, "hello")],
    ["a disk's blocks", (frame) => isMemory(frame, "blocks")],
    ["memory", (frame) => isMemory(frame, "pages")],
    ["the end of a pass", (frame) => isMemory(frame, "passEnd")],
    ["the state", (frame) => isControl(frame, "state")],
  ];

  it("when the target is killed or the link cut at any step", async () => {
    await using here = await source();
    for (const [, isIt] of steps) {
      await using there = await (await place()).start("--receive");
      const kill = () => {
        there.signal("SIGKILL");
        return "cut" as const;
      };
      await using _relay = await migrate(here, there, first(isIt, kill));
      await reaches(here, "Failed");
      await runsStill(here);
    }
    for (const [name, isIt] of steps.filter(([each]) => each !== "hello")) {
      await using there = await (await place()).start("--receive");
      await using _relay = await migrate(
        here,
        there,
        first(isIt, () => "cut"),
      );
      await reaches(here, "Failed");
      await runsStill(here);
      const { exitCode, termination } = await there.ended();
      expect([name, exitCode === 0, termination?.reason]).toEqual([name, false, "StateInvalid"]);
      expect(existsSync(overlayOf(there))).toBe(false);
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

  it("and a target whose source is killed ends", async () => {
    const here = await source();
    const there = await (await place()).start("--receive");
    const kill = () => {
      here.signal("SIGKILL");
      return "cut" as const;
    };
    await using _relay = await migrate(
      here,
      there,
      first((frame) => isControl(frame, "state"), kill),
    );
    expect((await there.ended()).termination?.reason).toBe("StateInvalid");
    expect(existsSync(overlayOf(there))).toBe(false);
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
