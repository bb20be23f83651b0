/**
 * Frames between a guest and its TAP, under our launcher in its own process (no vhost-net) and under Debian's QEMU with a
 * plain TAP: the same guest on the same /dev/kvm, in turn, on a TAP of the same make with the same offloads. The load is
 * the test guest's `netbench`: it runs at CPL 3, at full speed even where a guest's kernel is emulated, and looks for what
 * was done instead of taking interrupts, so that what is measured is the way from the doorbell to the TAP and back. What
 * it sends, the kernel drops at the TAP, or gives back as often as the load says (nftables' dup and fwd): nobody else
 * needs a processor for it. Needs root: it makes a network namespace. Build first: hack/build launcher &&
 * hack/build-testguest.
 *
 *   node hack/bench/network.ts [--rounds 3] [--ms 500] [--only "64 B"] [--polling US] [--realtime]
 *                              a table on standard error, JSON on standard output
 * --only: loads whose name it matches. --polling: the launcher's window, default its own. --realtime: gives both VMMs
 * precedence over all else on the machine while they are measured; for machines that others use, whom it holds up.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { TestNamespace } from "../../launcher/src/net/testing/network-namespace.ts";
import { say } from "../lib/step.ts";
import type { BenchMachine } from "./bench-machine.ts";
import { ticksPerSecond } from "./compile.ts";
import { type NetworkVmm, networkVmms, startWithInterface } from "./network/vmm.ts";
import { median, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    ms: { type: "string", default: "500" },
    only: { type: "string", default: "" },
    polling: { type: "string" },
    realtime: { type: "boolean", default: false },
  },
});
const runMs = Number(values.ms);
const pollingUs = values.polling === undefined ? undefined : Number(values.polling);
const RUN_TIMEOUT_MS = 120_000;
/** To find out how many frames make a run of the wanted length. */
const TRIAL_MS = 50;
const DEVICE = "tap0";
const SEGMENTS_BYTES = 60_000;
const SEGMENT_BYTES = 1448;

interface Load {
  readonly name: string;
  /** Frames under way. */
  readonly depth: number;
  readonly lengthBytes: number;
  /** How many come back for each. */
  readonly returns: number;
  /** 0 for frames that are none of many segments. */
  readonly segmentBytes: number;
}

const small = (name: string, depth: number, returns: number): Load => ({
  name: `64 B, ${name}`,
  depth,
  lengthBytes: 64,
  returns,
  segmentBytes: 0,
});
const large = (name: string, depth: number, returns: number): Load => ({
  name: `60 kB of TCP, ${name}`,
  depth,
  lengthBytes: SEGMENTS_BYTES,
  returns,
  segmentBytes: SEGMENT_BYTES,
});
const loads: readonly Load[] = [
  small("sent", 64, 0),
  small("received, 16 for each sent", 8, 16),
  small("there and back, 64 under way", 64, 1),
  small("there and back, one at a time", 1, 1),
  large("sent", 8, 0),
  large("received, 4 for each sent", 2, 4),
].filter(({ name }) => new RegExp(values.only).test(name));

interface Figures {
  /** Of those that come back, where there are some; of those sent otherwise. */
  readonly framesPerSecond: number;
  /** Of the VMM for each of these, without the guest's own. */
  readonly cpuUs: number;
}

/** What the kernel does with the frames of the guest. */
function setReturns(space: TestNamespace, returns: number): void {
  const back = Array.from({ length: returns }, (_, i) => `${i < returns - 1 ? "dup" : "fwd"} to "${DEVICE}"`);
  space.filter(`
    table netdev bench
    delete table netdev bench
    table netdev bench {
      chain guest {
        type filter hook ingress device "${DEVICE}" priority 0; policy drop;
        ${back.join("\n")}
      }
    }`);
}

async function runLoad(machine: BenchMachine, load: Load, count: number): Promise<Figures & { seconds: number }> {
  const { console } = machine;
  const cpuBefore = machine.cpuSeconds();
  console.type(`netbench ${load.depth} ${count} ${load.lengthBytes} ${load.returns} ${load.segmentBytes}\n`);
  const answer = /netbench sent (\d+) received (\d+) bytes (\d+) ticks (\d+)\r\n/;
  const [, sent, received, bytes, ticks] = (await console.see(answer, RUN_TIMEOUT_MS)).map(Number);
  const cpuSeconds = machine.cpuSeconds() - cpuBefore;
  const seconds = (ticks ?? 0) / tscHz;
  const wanted = count * load.returns;
  if (sent !== count || received !== wanted || bytes !== wanted * (load.lengthBytes + 12))
    throw new Error(`${load.name}: ${sent} of ${count} sent, ${received} of ${wanted} received with ${bytes} bytes`);
  const frames = wanted || count;
  return { framesPerSecond: frames / seconds, cpuUs: (cpuSeconds / frames) * 1e6, seconds };
}

/**
 * Runs for about the wanted time: a trial, made longer until it says something, tells how many frames that is. One run
 * before is for what is compiled when it is used.
 */
async function measure(machine: BenchMachine, load: Load): Promise<Figures> {
  let count = 4 * load.depth;
  let trial = await runLoad(machine, load, count);
  for (; trial.seconds * 1000 < TRIAL_MS; trial = await runLoad(machine, load, count)) count *= 4;
  const perMs = (figures: { seconds: number }) => count / (figures.seconds * 1000);
  count = Math.max(load.depth, Math.round(perMs(trial) * runMs));
  const warm = await runLoad(machine, load, count);
  return runLoad(machine, load, Math.max(load.depth, Math.round(perMs(warm) * runMs)));
}

const key = (vmm: NetworkVmm, load: Load) => `${vmm}: ${load.name}`;

async function measureAll(space: TestNamespace, directory: string): Promise<Map<string, Figures[]>> {
  const results = new Map<string, Figures[]>();
  for (let turn = 1; turn <= Number(values.rounds); turn++)
    for (const vmm of networkVmms) {
      say(`round ${turn}: ${vmm}`);
      await using machine = await startWithInterface(vmm, {
        namespace: space.name,
        device: DEVICE,
        directory,
        pollingUs,
      });
      for (const load of loads) {
        setReturns(space, load.returns);
        if (values.realtime) machine.setRealtime(true);
        const figures = await measure(machine, load);
        if (values.realtime) machine.setRealtime(false);
        results.set(key(vmm, load), [...(results.get(key(vmm, load)) ?? []), figures]);
      }
    }
  return results;
}

function report(results: ReadonlyMap<string, readonly Figures[]>) {
  return loads.map((load) => {
    const of = (vmm: NetworkVmm) => {
      const runs = results.get(key(vmm, load)) ?? [];
      return {
        framesPerSecond: median(runs.map((run) => run.framesPerSecond)),
        cpuUs: median(runs.map((run) => run.cpuUs)),
      };
    };
    const [ours, filtered, theirs] = [of("launcher"), of("launcher, filtered"), of("QEMU")];
    return {
      load: load.name,
      launcher: round(ours.framesPerSecond, 0),
      filtered: round(filtered.framesPerSecond, 0),
      QEMU: round(theirs.framesPerSecond, 0),
      ratio: round(ours.framesPerSecond / theirs.framesPerSecond, 2),
      "ratio, filtered": round(filtered.framesPerSecond / theirs.framesPerSecond, 2),
      "launcher CPU us": round(ours.cpuUs, 2),
      "filtered CPU us": round(filtered.cpuUs, 2),
      "QEMU CPU us": round(theirs.cpuUs, 2),
    };
  });
}

const directory = mkdtempSync(join(tmpdir(), "bench-network-"));
const tscHz = ticksPerSecond(directory);
try {
  using space = new TestNamespace();
  // Nothing but what the guest sends is on the TAP.
  space.withoutIpv6();
  space.ip(`tuntap add dev ${DEVICE} mode tap vnet_hdr`);
  space.ip(`link set ${DEVICE} up`);
  const results = await measureAll(space, directory);
  const rows = report(results);
  console.error(table(rows));
  const qemu = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }).split("\n")[0];
  console.log(JSON.stringify({ qemu, rows, all: Object.fromEntries(results) }, null, 2));
} finally {
  rmSync(directory, { recursive: true });
}
