/**
 * The network of a Linux guest: under our launcher and under Debian's QEMU, each with vhost-net and without, and in a bare
 * pod (a network namespace behind a veth pair), in turn, in the same lab (hack/linux-lab). Who talks to it is a namespace
 * of the same machine. TCP streams and small datagrams are iperf3's, requests a program's that waits for each answer. In an
 * emulated node only the ratios mean something. Build first: hack/build launcher.
 *
 *   node hack/bench/iperf.ts [--rounds 3] [--seconds 4] [--queues 1,4] [--only REGEX] [--side REGEX]
 *                                            a table on standard error, JSON on standard output
 * --queues: of the interface; as many processors and streams. --only: loads whose name it matches, --side: who has them.
 */
import { parseArgs } from "node:util";
import { iperf } from "../../e2e/linux/network-load.ts";
import { say } from "../lib/step.ts";
import type { LinuxLab } from "../linux-lab/lab.ts";
import { openLab } from "../linux-lab/open.ts";
import { type Endpoint, IperfBench, type Side, sides } from "./network/endpoints.ts";
import { median, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "4" },
    queues: { type: "string", default: "1,4" },
    only: { type: "string", default: "" },
    side: { type: "string", default: "" },
  },
});
const seconds = Number(values.seconds);
const queueCounts = values.queues.split(",").map(Number);
const measuredSides = sides.filter((side) => new RegExp(values.side).test(side));
/** Of UDP, in a frame of 60 bytes, which is 64 on a wire. */
const SMALL_BYTES = 18;

interface Figures {
  /** In the load's unit, a second. */
  readonly rate: number;
  /** Processor time of the VMM with its guest, or of the program in the bare pod, for each thousand of that unit. */
  readonly cpuMs: number;
}

interface Load {
  readonly name: string;
  readonly unit: "Mbit" | "requests" | "datagrams";
  /** With several queues as well. */
  readonly isForQueues: boolean;
  /** Answers how many of them there were. */
  run(endpoint: Endpoint, queues: number): Promise<number>;
}

const measured = ({ fromPeer, address }: Endpoint, options: string) =>
  iperf(fromPeer, address, `--time ${seconds} ${options}`);

async function streams(endpoint: Endpoint, queues: number, way: string): Promise<number> {
  const { sum_received: received } = await measured(endpoint, `--parallel ${queues} ${way}`);
  return ((received?.bytes ?? 0) * 8) / 1e6;
}

/** By what was read: those lost after the last that was read are not among iperf3's lost ones, in a flood most of all. */
async function datagrams(endpoint: Endpoint, way: string): Promise<number> {
  const options = `--udp --length ${SMALL_BYTES} --bitrate 0 ${way}`;
  const { sum_received: received } = await measured(endpoint, options);
  return (received?.bytes ?? 0) / SMALL_BYTES;
}

async function requests(endpoint: Endpoint): Promise<number> {
  return Number(await endpoint.fromPeer(endpoint.requestLine(seconds)));
}

const loads: readonly Load[] = [
  { name: "TCP to it", unit: "Mbit", isForQueues: true, run: (at, queues) => streams(at, queues, "") },
  { name: "TCP from it", unit: "Mbit", isForQueues: true, run: (at, queues) => streams(at, queues, "--reverse") },
  { name: "TCP_RR, a byte each", unit: "requests", isForQueues: false, run: requests },
  { name: "64 B of UDP to it", unit: "datagrams", isForQueues: false, run: (at) => datagrams(at, "") },
  { name: "64 B of UDP from it", unit: "datagrams", isForQueues: false, run: (at) => datagrams(at, "--reverse") },
];
const loadsOf = (queues: number) =>
  loads.filter(({ name, isForQueues }) => new RegExp(values.only).test(name) && (isForQueues || queues === 1));

const key = (side: Side, queues: number, load: Load) => `${side}, ${queues}: ${load.name}`;

async function measure(endpoint: Endpoint, load: Load, queues: number): Promise<Figures> {
  const before = await endpoint.cpuSeconds();
  const amount = await load.run(endpoint, queues);
  const cpuSeconds = (await endpoint.cpuSeconds()) - before;
  if (!(amount > 0)) throw new Error(`${load.name}: nothing arrived`);
  return { rate: amount / seconds, cpuMs: (cpuSeconds / amount) * 1e6 };
}

async function measureAll(lab: LinuxLab): Promise<Map<string, Figures[]>> {
  const results = new Map<string, Figures[]>();
  await using bench = await IperfBench.open(lab);
  for (let turn = 1; turn <= Number(values.rounds); turn++)
    for (const queues of queueCounts)
      for (const side of measuredSides) {
        say(`round ${turn}, ${queues} queues: ${side}`);
        await using endpoint = await bench.start(side, queues);
        for (const load of loadsOf(queues)) {
          const figures = await measure(endpoint, load, queues);
          say(`${side}, ${load.name}: ${round(figures.rate, 0)} ${load.unit} a second, ${round(figures.cpuMs, 2)} ms`);
          const name = key(side, queues, load);
          results.set(name, [...(results.get(name) ?? []), figures]);
        }
      }
  return results;
}

/** One row a load: what each side does, in `field`, and what of QEMU's the launcher has with the same way of its frames. */
function report(results: ReadonlyMap<string, readonly Figures[]>, field: keyof Figures) {
  return queueCounts.flatMap((queues) =>
    loadsOf(queues).map((load) => {
      const of = (side: Side) => median((results.get(key(side, queues, load)) ?? []).map((figures) => figures[field]));
      const ratio = (path: "vhost-net" | "in process") => round(of(`launcher, ${path}`) / of(`QEMU, ${path}`), 2);
      return {
        load: `${load.name}, ${queues}`,
        unit: field === "rate" ? `${load.unit}/s` : `ms of CPU for 1000 ${load.unit}`,
        ...Object.fromEntries(measuredSides.map((side) => [side, round(of(side), field === "rate" ? 0 : 1)])),
        "ratio, vhost-net": ratio("vhost-net"),
        "ratio, in process": ratio("in process"),
      };
    }),
  );
}

const lab = await openLab();
const results = await measureAll(lab);
const [rates, cpu] = [report(results, "rate"), report(results, "cpuMs")];
for (const rows of [rates, cpu]) console.error(`${table(rows)}\n`);
const qemu = (await lab.run("qemu-system-x86_64 --version")).split("\n")[0];
console.log(JSON.stringify({ lab: lab.kind, qemu, seconds, rates, cpu, all: Object.fromEntries(results) }, null, 2));
