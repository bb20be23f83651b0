import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import type { DiskConfig, InterfaceConfig } from "../../api/machine-config.ts";
import { CodecError } from "../codec/codec-error.ts";
import { StateRefused } from "../codec/state-refused.ts";
import { IllegalTransition, MachineFrozen } from "../machine/control-surface.ts";
import { TestMachine, type TestMachineOptions } from "../machine/testing/test-machine.ts";
import { openLink } from "../net/open-link.ts";
import { TestNamespace } from "../net/testing/network-namespace.ts";
import { until } from "../testing/until.ts";
import { decodeState, encodeState } from "./codec/snapshot-codec.ts";

const NO_CONSOLES = { serial: new Uint8Array(0), virtio: new Uint8Array(0) };
const LIMIT_MS = 60_000;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "machine-state-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const scratch = (name = "scratch", file = name): DiskConfig => ({
  name,
  readOnly: false,
  queues: 1,
  source: { kind: "empty", path: join(directory, file), sizeBytes: 1 << 20 },
});

/** The machine's memory and state, as another one takes them. */
function taken({ machine }: TestMachine): { memory: Uint8Array[]; state: Uint8Array } {
  const { memory } = machine.memory;
  const copies = memory.regions.map(({ gpa, sizeBytes }) => memory.view(gpa, sizeBytes).slice());
  return { memory: copies, state: encodeState(machine.save(), NO_CONSOLES) };
}

async function continued(from: TestMachine, options: TestMachineOptions): Promise<TestMachine> {
  await from.machine.freeze(LIMIT_MS);
  const { memory, state } = taken(from);
  await from.machine.leave("Suspended", "for a test");
  await using cleanup = new AsyncDisposableStack();
  const to = cleanup.use(await TestMachine.make({ ...options, isIncoming: true, keepLocalDisks: true }));
  to.machine.memory.memory.regions.forEach(({ gpa }, i) => {
    to.machine.memory.memory.write(gpa, memory[i] ?? new Uint8Array(0));
  });
  const { snapshot, version } = decodeState(state);
  to.machine.restore(snapshot, { elapsedNs: 0n, version });
  cleanup.move();
  return to;
}

describe("a machine that was saved", () => {
  it("goes on on another one: consoles, disks, queues and all", async () => {
    const options = { cpuCount: 2, disks: [scratch(), scratch("other")] };
    let test = await TestMachine.start(options);
    try {
      await test.console.ask("cpus", "cpus 2\r\n");
      await test.console.ask("fill 0x800000 64 7", "fill done");
      await test.console.ask("blkwrite 0 5 77", "blkwrite status 0");
      await test.console.ask("rng 16", "rng");
      for (let round = 0; round < 3; round++) {
        const next = await continued(test, options);
        await test[Symbol.asyncDispose]();
        test = next;
        test.machine.start();
        expect(await test.console.ask("echo here", "here\r\n")).toBe("here\r\n");
        await test.console.ask("check 0x800000 64 7", "check errors 0\r\n");
        await test.console.ask("blkread 0 5", "blkread status 0 data 0x4d");
        await test.console.ask(`blkwrite 1 ${round} ${round}`, "blkwrite status 0");
        await test.console.ask("rng 16", "rng");
        await test.console.ask("hvcprint 3", "hvc printed");
        await test.virtioConsole.said("a line on the virtio console");
      }
      await test.console.ask("reboot", "READY pvh\r\n");
      expect(test.machine.status()).toMatchObject({ reboots: 1, state: "Running" });
    } finally {
      await test[Symbol.asyncDispose]();
    }
  });

  describe("with a network", () => {
    const guest = { ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" } };
    const config: InterfaceConfig = {
      name: "default",
      mac: "02:5a:00:12:34:56",
      queues: 1,
      link: "up",
      attachment: { kind: "tap", device: "tap0", guest },
      dataPath: "inProcess",
    };
    /** Of each kind of frame in the guest's name, how many came out of the TAP. */
    const COUNTED = `table netdev seen {
      chain come { type filter hook ingress device tap0 priority 0; ether saddr ${config.mac} jump named; }
      chain named {
        ether type 0x8035 counter comment "reverse"
        arp operation request arp saddr ip 10.0.2.2 arp daddr ip 10.0.2.2 @nh,144,48 0 counter comment "launcher"
        arp operation request arp saddr ip 10.0.2.2 arp daddr ip 10.0.2.2 @nh,144,48 != 0 counter comment "guest"
      }
    }`;
    let spaces: DisposableStack;
    beforeEach(() => {
      spaces = new DisposableStack();
    });
    afterEach(() => spaces[Symbol.dispose]());

    const place = () => {
      const space = spaces.use(new TestNamespace());
      space.addTap("tap0", "10.0.2.1/24");
      space.filter(COUNTED);
      return { space, options: { interfaces: [config], links: [space.within(() => openLink(config))] } };
    };
    const counted = async ({ space }: ReturnType<typeof place>) => {
      const { output } = await space.run("nft", "list", "table", "netdev", "seen");
      const found = [...output.matchAll(/counter packets (\d+) bytes \d+ comment "(\w+)"/g)];
      return Object.fromEntries(found.map(([, count, kind = ""]) => [kind, Number(count)]));
    };

    it("is announced to it, so that a neighbour that knew it elsewhere finds it", async () => {
      const [here, there] = [place(), place()];
      await using first = await TestMachine.start(here.options);
      first.console.type("netecho 1");
      await first.console.said("net up\r\n");
      const neighbour = "10.0.2.2 lladdr 02:00:00:00:00:99 nud stale dev tap0";
      there.space.ip(`neigh replace ${neighbour}`);
      await using second = await continued(first, there.options);
      expect(there.space.ip("neigh show 10.0.2.2")).toContain("02:00:00:00:00:99");
      expect(await counted(there)).toEqual({ reverse: 0, launcher: 0, guest: 0 });
      second.machine.start();
      await until(() => there.space.ip("neigh show 10.0.2.2").includes(config.mac));
      await until(async () => (await counted(there))["launcher"] === 5);
      expect(await counted(there)).toEqual({ reverse: 5, launcher: 5, guest: 0 });
      expect(await counted(here)).toEqual({ reverse: 0, launcher: 0, guest: 0 });
    });

    it("is told of its router at once in each place, and need not ask", async () => {
      const ipv6 = { address: "fd10:0:2::2", prefixLength: 120, gateway: "fe80::1" };
      const attachment = { kind: "tap", device: "tap0", guest: { ...guest, ipv6 } } as const;
      const quiet = () => {
        const space = spaces.use(new TestNamespace());
        space.withoutIpv6();
        space.addTap("tap0", "10.0.2.1/24");
        const interfaces = [{ ...config, attachment }];
        return { interfaces, links: interfaces.map((each) => space.within(() => openLink(each))) };
      };
      const heard = ({ machine }: TestMachine) => machine.networkUse()[0]?.receive.packets;
      await using first = await TestMachine.start(quiet());
      first.console.type("netecho 1");
      await until(() => heard(first) === 1);
      await using second = await continued(first, quiet());
      expect(heard(second)).toBe(0);
      second.machine.start();
      await until(() => heard(second) === 1);
    });

    it("asks a guest that can to announce itself, by an interrupt, until it says that it has, in each place", async () => {
      const [here, there, further] = [place(), place(), place()];
      await using first = await TestMachine.start(here.options);
      expect(await first.console.ask("netannounce", "net waits")).not.toContain("net announced");
      await using second = await continued(first, there.options);
      second.machine.start();
      await second.console.said("net announced, status 0x3, answer 0, status 0x1\r\n");
      expect(await counted(there)).toMatchObject({ guest: 1 });
      expect(await counted(here)).toEqual({ reverse: 0, launcher: 0, guest: 0 });
      await second.console.ask("netannounce", "net waits, status 0x1\r\n");
      await using third = await continued(second, further.options);
      third.machine.start();
      await third.console.said("net announced, status 0x3, answer 0, status 0x1\r\n");
      expect(await counted(further)).toMatchObject({ guest: 1 });
    });
  });

  it("has lost no write, no tick and no time of a guest that was busy with all of them", async () => {
    let test = await TestMachine.start();
    try {
      await test.console.ask("timer 3000000 1", "timer runs");
      await test.console.ask("load 0x800000 200", "load runs");
      for (let round = 0; round < 5; round++) {
        const next = await continued(test, {});
        await test[Symbol.asyncDispose]();
        test = next;
        test.machine.start();
        const ticks = () => test.machine.memory.memory.readU32(0x3000 as never);
        const before = ticks();
        while (ticks() <= before + 1) await new Promise((resolve) => setImmediate(resolve));
      }
      const said = await test.console.ask("stop", "ticks");
      expect(said).toMatch(/load rounds \d+ errors 0 backward 0 longest/);
    } finally {
      await test[Symbol.asyncDispose]();
    }
  });

  it("goes on where it was when it is thawed instead, and was left alone meanwhile", async () => {
    await using test = await TestMachine.start({ disks: [scratch()] });
    await test.machine.freeze(LIMIT_MS);
    expect(test.machine.status()).toMatchObject({ state: "Paused", reason: "Frozen" });
    test.console.text = "";
    test.console.type("echo later");
    await expect(test.machine.freeze(LIMIT_MS)).rejects.toThrow(MachineFrozen);
    await expect(test.machine.reset()).rejects.toThrow(MachineFrozen);
    expect(() => test.machine.pressPowerButton()).toThrow(MachineFrozen);
    test.machine.resume();
    const { state } = taken(test);
    expect(taken(test).state.length).toBe(state.length);
    expect(test.console.text).toBe("");
    test.machine.thaw();
    await test.console.said("later\r\n");
    expect(test.machine.status().state).toBe("Running");
  });

  it("stays paused when it was, there and here", async () => {
    const test = await TestMachine.start();
    await test.machine.pause();
    await test.machine.freeze(LIMIT_MS);
    test.machine.thaw();
    expect(test.machine.status()).toMatchObject({ state: "Paused", reason: "PauseRequested" });
    await using next = await continued(test, {});
    next.machine.start();
    expect(next.machine.status()).toMatchObject({ state: "Paused", reason: "PauseRequested" });
    next.machine.resume();
    await next.console.ask("echo here", "here\r\n");
    await test[Symbol.asyncDispose]();
  });

  it("stops once it is thawed, when it was asked to meanwhile; in time, when it is not thawed", async () => {
    await using test = await TestMachine.start();
    await test.machine.freeze(LIMIT_MS);
    const stopped = test.machine.stop(60_000);
    expect(test.machine.status().state).toBe("Paused");
    test.machine.thaw();
    await stopped;
    await expect(test.machine.ended).resolves.toMatchObject({ reason: "Stopped" });
    await using other = await TestMachine.start();
    await other.machine.freeze(LIMIT_MS);
    await other.machine.stop(10);
    await expect(other.machine.ended).resolves.toMatchObject({ reason: "StopTimeout" });
  });

  it("is not frozen before it runs, or after its end", async () => {
    await using test = await TestMachine.make();
    await expect(test.machine.freeze(LIMIT_MS)).rejects.toThrow(IllegalTransition);
    await test.machine.stop(0);
    await expect(test.machine.freeze(LIMIT_MS)).rejects.toThrow(IllegalTransition);
  });
});

describe("the state of a machine", () => {
  it("is refused by a machine that it is not that of, with what to do", async () => {
    await using test = await TestMachine.start({ disks: [scratch()] });
    await test.machine.freeze(LIMIT_MS);
    const { snapshot, version } = decodeState(taken(test).state);
    const refusal = async (options: TestMachineOptions, changed = snapshot) => {
      await using to = await TestMachine.make({ ...options, isIncoming: true });
      expect(() => to.machine.restore(changed, { elapsedNs: 0n, version })).toThrow(StateRefused);
      try {
        to.machine.restore(changed, { elapsedNs: 0n, version });
      } catch (error) {
        return String(error);
      }
      return "";
    };
    const { facts } = snapshot;
    expect(await refusal({}, { ...snapshot, facts: { ...facts, uid: "someone else" } })).toContain(
      "machine someone else",
    );
    expect(await refusal({}, { ...snapshot, facts: { ...facts, memoryBytes: 4096 } })).toContain(
      "set memory.sizeBytes",
    );
    expect(await refusal({ cpuCount: 2 })).toContain("1 were saved, and this machine has 2");
    expect(await refusal({})).toContain("virtio-blk scratch: this machine's configuration does not have it");
    expect(await refusal({ disks: [{ ...scratch("x") }, { ...scratch("y") }] })).toContain("virtio-blk scratch");
  });

  it("does no harm to the process whatever is in it", async () => {
    await using test = await TestMachine.start({ disks: [scratch()] });
    await test.machine.freeze(LIMIT_MS);
    const { snapshot, version } = decodeState(taken(test).state);
    const { state } = taken(test);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 40 }), async (changes) => {
        // Inside the parts, past their checksums.
        const hostile = structuredClone({ ...snapshot, board: undefined });
        const views = bytesIn(hostile);
        for (const [at, value] of changes) {
          const view = views[at % views.length];
          if (view && view.length > 0) view[Math.floor(at / views.length) % view.length] = value;
        }
        await using to = await TestMachine.make({ isIncoming: true, disks: [scratch("scratch", "other")] });
        try {
          to.machine.restore({ ...hostile, board: snapshot.board }, { elapsedNs: 0n, version });
        } catch (error) {
          if (!(error instanceof StateRefused)) throw error;
        }
      }),
      { numRuns: 15 },
    );
    fc.assert(
      fc.property(fc.nat(state.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = state.slice();
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        expect(() => decodeState(damaged)).toThrow(CodecError);
      }),
    );
  });
});

/** All byte arrays inside a value. */
function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}
