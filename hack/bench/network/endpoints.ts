import { startGuest } from "../../../e2e/linux/guest.ts";
import { parseProcessStat, TICKS_PER_SECOND } from "../../lib/process-stat.ts";
import type { LinuxLab } from "../../linux-lab/lab.ts";
import { BENCH_INIT, type BenchGuest, prepareShell, startLabQemu } from "../lab-qemu.ts";

export const sides = [
  "launcher, vhost-net",
  "QEMU, vhost-net",
  "launcher, in process",
  "QEMU, in process",
  "bare pod",
] as const;
export type Side = (typeof sides)[number];

/** What is measured: a guest, or a bare pod, with an iperf3 and a program that answers requests. */
export interface Endpoint extends AsyncDisposable {
  readonly address: string;
  /** Processor time so far of all that runs there, the guest's own included. */
  cpuSeconds(): Promise<number>;
  /** Runs a line of shell in the namespace that it talks to. */
  fromPeer(line: string): Promise<string>;
  /** A line of shell that sends a byte and waits for one, again and again, and tells how often it did. */
  requestLine(seconds: number): string;
}

const MEMORY_MIB = 384;
const MAC = "02:5a:00:12:34:58";
const PEER = "bench-peer";
const POD = "bench-pod";
const DEVICE = "tap0";
const PEER_ADDRESS = "10.0.3.1";
const ADDRESS = "10.0.3.2";
const REQUESTS_PORT = 7001;

/** TCP_NODELAY, as netperf's TCP_RR sets it. Perl of Debian's base is on both sides. */
const socketOptions = "use IO::Socket::INET; use Socket qw(IPPROTO_TCP TCP_NODELAY);";
const noDelay = "setsockopt($s,IPPROTO_TCP,TCP_NODELAY,1);";
const answerRequests = `${socketOptions} $l=IO::Socket::INET->new(LocalPort=>${REQUESTS_PORT},Listen=>5,ReuseAddr=>1)or die$!; while($s=$l->accept){${noDelay} while(sysread($s,$_,1)){syswrite($s,$_)}}`;
const askFor = (seconds: number) =>
  `${socketOptions} $s=IO::Socket::INET->new("${ADDRESS}:${REQUESTS_PORT}")or die$!; ${noDelay} $SIG{ALRM}=sub{print $n;exit}; alarm ${seconds}; for(;;){syswrite($s,"x");sysread($s,$_,1)or die$!;$n++}`;

/** Run by a shell on the other side; single quotes keep Perl's own signs. */
const servers = [
  "iperf3 --server >/dev/null 2>&1 </dev/null &",
  `perl -e '${answerRequests}' >/dev/null 2>&1 </dev/null &`,
];
const untilServed = `until ss -ltn | grep -q :5201 && ss -ltn | grep -q :${REQUESTS_PORT}; do sleep 0.1; done`;

/** The namespaces of the lab in which the benchmark runs. */
export class IperfBench implements AsyncDisposable {
  readonly #lab: LinuxLab;
  readonly #directory: string;

  private constructor(lab: LinuxLab) {
    this.#lab = lab;
    this.#directory = `${lab.paths.scratch}/bench-iperf`;
  }

  static async open(lab: LinuxLab): Promise<IperfBench> {
    const bench = new IperfBench(lab);
    await lab.run("modprobe -qa tun vhost_net veth || true");
    await lab.run("test -c /dev/vhost-net").catch(() => {
      throw new Error("the lab has no /dev/vhost-net to compare with");
    });
    await lab.run(`mkdir -p ${bench.#directory}`);
    return bench;
  }

  /** Starts what is measured, and what serves there. */
  async start(side: Side, queues: number): Promise<Endpoint> {
    await this.#removeNamespaces();
    if (side === "bare pod") return this.#startPod();
    const [vmm, path] = side.split(", ");
    await this.#lab.run(
      [
        "set -e",
        `ip netns add ${PEER}`,
        `ip -n ${PEER} link set lo up`,
        `ip -n ${PEER} tuntap add dev ${DEVICE} mode tap vnet_hdr ${queues > 1 ? "multi_queue" : ""}`,
        `ip -n ${PEER} addr add ${PEER_ADDRESS}/24 dev ${DEVICE}`,
        `ip -n ${PEER} link set ${DEVICE} up`,
      ].join("\n"),
    );
    const isVhost = path === "vhost-net";
    const guest = await (vmm === "launcher" ? this.#launcher(queues, isVhost) : this.#qemu(queues, isVhost));
    await serveInGuest(guest);
    return { ...this.#endpoint(guest.pid), [Symbol.asyncDispose]: () => guest[Symbol.asyncDispose]() };
  }

  async #launcher(queues: number, isVhost: boolean): Promise<BenchGuest> {
    const guest = await startGuest(this.#lab, {
      image: "debian",
      cpus: queues,
      memoryMiB: MEMORY_MIB,
      commandLine: BENCH_INIT,
      namespace: PEER,
      change: (config) => ({
        ...config,
        interfaces: [
          {
            name: "default",
            mac: MAC,
            queues,
            link: "up",
            attachment: { kind: "tap", device: DEVICE },
            dataPath: isVhost ? "auto" : "inProcess",
          },
        ],
      }),
    });
    const [status] = (await guest.launcher.status()).interfaces ?? [];
    if ((status?.dataPath === "vhost-net") !== isVhost) throw new Error(`the launcher took ${status?.dataPath}`);
    return guest;
  }

  #qemu(queues: number, isVhost: boolean): Promise<BenchGuest> {
    const several = queues > 1 ? [`,queues=${queues}`, `,mq=on,vectors=${2 * queues + 2}`] : ["", ""];
    const netdev = `tap,id=net,ifname=${DEVICE},script=no,downscript=no,vhost=${isVhost ? "on" : "off"}`;
    return startLabQemu(this.#lab, {
      directory: this.#directory,
      cpus: queues,
      memoryMiB: MEMORY_MIB,
      namespace: PEER,
      devices: [
        `-netdev ${netdev}${several[0]}`,
        `-device virtio-net-pci,netdev=net,mac=${MAC},disable-legacy=on,romfile=${several[1]}`,
      ],
    });
  }

  async #startPod(): Promise<Endpoint> {
    await this.#lab.run(
      [
        "set -e",
        ...[PEER, POD].map((name) => `ip netns add ${name} && ip -n ${name} link set lo up`),
        `ip -n ${PEER} link add eth0 type veth peer name eth0 netns ${POD}`,
        `ip -n ${PEER} addr add ${PEER_ADDRESS}/24 dev eth0`,
        `ip -n ${POD} addr add ${ADDRESS}/24 dev eth0`,
        ...[PEER, POD].map((name) => `ip -n ${name} link set eth0 up`),
      ].join("\n"),
    );
    await this.#lab.run("cat >/tmp/bench-serve.sh", ["echo $$", ...servers, untilServed, "wait", ""].join("\n"));
    const child = this.#lab.start(`exec ip netns exec ${POD} sh /tmp/bench-serve.sh`);
    const pid = await new Promise<number>((resolve, reject) => {
      child.stdout?.setEncoding("utf8").once("data", (text: string) => resolve(Number.parseInt(text, 10)));
      child.once("close", () => reject(new Error("the servers in the bare pod ended")));
    });
    await this.#lab.run(`ip netns exec ${POD} sh -c '${untilServed}'`);
    return { ...this.#endpoint(pid), [Symbol.asyncDispose]: () => this.#removeNamespaces() };
  }

  #endpoint(pid: number): Omit<Endpoint, typeof Symbol.asyncDispose> {
    const lab = this.#lab;
    return {
      address: ADDRESS,
      // Of all processes of a bare pod, which are children of its first.
      cpuSeconds: async () => {
        const stats = await lab.run(
          `for each in ${pid} $(cat /proc/${pid}/task/${pid}/children); do cat /proc/$each/stat 2>/dev/null || true; done`,
        );
        const ticks = stats
          .trim()
          .split("\n")
          .reduce((sum, stat) => sum + parseProcessStat(stat).cpuTicks, 0);
        return ticks / TICKS_PER_SECOND;
      },
      fromPeer: (line) => lab.run(`ip netns exec ${PEER} ${line}`),
      requestLine: (seconds) => `perl -e '${askFor(seconds)}'`,
    };
  }

  /** With all that runs in them. */
  async #removeNamespaces(): Promise<void> {
    const remove = (name: string) =>
      `if ip netns pids ${name} >/tmp/bench-pids 2>/dev/null; then xargs -r kill -KILL </tmp/bench-pids; ip netns del ${name}; fi`;
    await this.#lab.run([PEER, POD].map(remove).join("\n"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#removeNamespaces();
    await this.#lab.run(`rm -rf ${this.#directory} /tmp/bench-serve.sh /tmp/bench-pids`);
  }
}

async function serveInGuest(guest: BenchGuest): Promise<void> {
  await prepareShell(guest);
  const { console } = guest;
  await console.shell("modprobe virtio_net; until ls -d /sys/class/net/e* >/dev/null 2>&1; do sleep 0.1; done");
  const device = await console.shell("cd /sys/class/net && ls -d e*; cd /tmp");
  await console.shell(`ip link set lo up; ip addr add ${ADDRESS}/24 dev ${device}; ip link set ${device} up`);
  for (const server of servers) await console.shell(`${server.replace(/&$/, "& true")}`);
  await console.shell(untilServed);
}
