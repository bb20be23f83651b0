import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "../../hack/lib/step.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { LOAD_PORT, loadProgram, type Seen, seen } from "../../hack/migrations/load.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import type { MigrationResult } from "../../launcher/api/migration.ts";
import { TestAuthority } from "../../launcher/src/testing/certificates.ts";
import { bootGuest, type Guest, type GuestEnd, type GuestOptions, startGuest } from "./guest.ts";

/** Ends of a bridge, one for each of two launchers that have the machine in turn. */
const taps = ["tap0", "tap1"] as const;
const [BRIDGE, GUEST] = ["10.0.3.1", "10.0.3.2"];
const MAC = "02:5a:00:12:34:59";
const FIRST_PORT = 31_000;
const SHARED_BYTES = 16 << 20;
const LOAD_MIB = 4;
const shellMs = 180_000;
const MOVE_MS = 300_000;
/** Emulated processors copy slowly. */
const MAX_DOWNTIME_MS = 3_000;

/** Where a stream of numbers is served: each is sent once the one before has come back. */
const STREAM_PORT = 7001;
/** Where that server tells what has become of it. */
const STREAM_STATE_PORT = 7002;
const echoAsker = `
const state = { connections: 0, echoed: 0, wrong: 0 };
const { createServer } = require("node:net");
createServer((socket) => {
  state.connections++;
  let text = "";
  const ask = () => socket.write(state.echoed + "\\n");
  const fail = () => state.wrong++;
  socket.on("error", fail).on("close", fail).setEncoding("latin1").on("data", (chunk) => {
    text += chunk;
    if (!text.endsWith("\\n")) return;
    if (text !== state.echoed + "\\n") fail();
    text = "";
    state.echoed++;
    setTimeout(ask, 10);
  });
  ask();
}).listen(${STREAM_PORT}, "${BRIDGE}");
createServer((socket) => socket.end(JSON.stringify(state))).listen(${STREAM_STATE_PORT}, "${BRIDGE}");
`;
const echo = `$s = IO::Socket::INET->new("${BRIDGE}:${STREAM_PORT}") or die; while (sysread $s, $b, 4096) { syswrite $s, $b }`;

/** What has become of the stream: it is one connection, which each move has to leave alone. */
export interface StreamState {
  readonly connections: number;
  readonly echoed: number;
  readonly wrong: number;
}

/**
 * A Debian under load (hack/migrations/load.pl) with a stream that it keeps open, in one launcher and then in the next: its
 * root goes along, a disk is shared, and so is the bridge that its network ends at.
 */
export class MovingMachine implements AsyncDisposable {
  readonly #lab: LinuxLab;
  readonly #directory: string;
  readonly #namespace = `moving-${randomUUID().slice(0, 8)}`;
  readonly #uid = randomUUID();
  #guest: Guest | undefined;
  #launchers = 0;
  #server = 0;

  private constructor(lab: LinuxLab) {
    this.#lab = lab;
    this.#directory = join(lab.paths.scratch, this.#namespace);
  }

  static async boot(lab: LinuxLab): Promise<MovingMachine> {
    const machine = new MovingMachine(lab);
    try {
      await machine.#makeFiles();
      machine.#guest = await bootGuest(lab, { ...machine.#options(), prepare: () => machine.#makeNetwork() });
      await machine.#startLoad(machine.#guest);
      await machine.#isLoaded();
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #makeFiles(): Promise<void> {
    const authority = await TestAuthority.create();
    const { cert, key } = await authority.issue("CN=machine");
    const files = { cert, key, ca: authority.certificate, "load/load.pl": await readFile(loadProgram, "utf8") };
    await this.#lab.run(`mkdir -p ${this.#directory}/load && truncate -s ${SHARED_BYTES} ${this.#directory}/shared`);
    for (const [name, text] of Object.entries({ ...files, "asker.cjs": echoAsker }))
      await this.#lab.run(`cat >${this.#directory}/${name}`, text);
  }

  async #makeNetwork(): Promise<void> {
    const ip = `ip -n ${this.#namespace}`;
    const ends = taps.flatMap((tap) => [
      `${ip} tuntap add dev ${tap} mode tap vnet_hdr multi_queue`,
      `${ip} link set ${tap} master bridge up`,
    ]);
    await this.#lab.run(
      [
        "set -e",
        "modprobe -qa tun bridge vhost_net || true",
        `ip netns del ${this.#namespace} 2>/dev/null || true`,
        `ip netns add ${this.#namespace}`,
        `${ip} link set lo up`,
        `${ip} link add bridge type bridge`,
        `${ip} addr add ${BRIDGE}/24 dev bridge`,
        `${ip} link set bridge up`,
        ...ends,
      ].join("\n"),
    );
    const server = `${this.#lab.paths.node} ${this.#directory}/asker.cjs >/dev/null 2>&1 </dev/null & echo $!`;
    this.#server = Number(await this.#lab.run(`ip netns exec ${this.#namespace} ${server}`));
  }

  /** Of the next launcher. */
  #options(): GuestOptions {
    const launcher = this.#launchers++;
    const file = (name: string) => join(this.#directory, name);
    const device = taps[launcher % taps.length] ?? taps[0];
    const change = (config: MachineConfig): MachineConfig => ({
      ...config,
      identity: { ...config.identity, uid: this.#uid },
      disks: [
        ...config.disks,
        { name: "shared", readOnly: false, queues: 1, source: { kind: "raw", path: file("shared") } },
        {
          name: "load",
          readOnly: true,
          queues: 1,
          source: { kind: "files", directory: file("load"), volumeLabel: "load" },
        },
      ],
      interfaces: [
        { name: "default", mac: MAC, queues: 1, link: "up", attachment: { kind: "tap", device }, dataPath: "auto" },
      ],
      migration: {
        address: "127.0.0.1",
        // And the one after it, for memory.
        port: FIRST_PORT + 2 * launcher,
        certPath: file("cert"),
        keyPath: file("key"),
        caPath: file("ca"),
      },
    });
    return { image: "debian", memoryMiB: 256, namespace: this.#namespace, change };
  }

  async #startLoad({ console }: Guest): Promise<void> {
    const shell = (line: string) => console.shell(line, shellMs);
    await shell("dmesg --console-off; mount -o ro /dev/vdc /mnt && cp /mnt/load.pl /root && umount /mnt");
    await shell(
      `cd /sys/class/net && for link in e*; do ip link set $link up; ip addr add ${GUEST}/24 dev $link; done`,
    );
    await shell(`(setsid perl -MIO::Socket::INET -e '${echo}' </dev/null >/root/echo.log 2>&1 &)`);
    await shell(`(setsid perl /root/load.pl /dev/vdb ${LOAD_MIB} </dev/null >/root/load.log 2>&1 &)`);
  }

  get guest(): Guest {
    if (this.#guest === undefined) throw new Error("the machine was not booted");
    return this.#guest;
  }

  /** To a launcher of its own; answers once the machine has left the one before. */
  async move(): Promise<MigrationResult> {
    const here = this.guest;
    const there = await startGuest(this.#lab, { ...this.#options(), receive: true });
    const { address, port } = there.config.migration ?? { address: "", port: 0 };
    const request = { address, port, maxDowntimeMs: MAX_DOWNTIME_MS, deadlineMs: MOVE_MS };
    await here.launcher.migrate(request);
    const end = await this.#endOf(here);
    this.#guest = there;
    await here[Symbol.asyncDispose]();
    if (end.termination?.migration === undefined)
      throw new Error(`the source ended with ${end.exitCode}: ${JSON.stringify(end.termination)}\n${end.log}`);
    return end.termination.migration;
  }

  /** Of the launcher that the machine leaves; throws where it stays. */
  async #endOf({ launcher, ended }: Guest): Promise<GuestEnd> {
    let end: GuestEnd | undefined;
    void ended.then((value) => {
      end = value;
    });
    const look = async () => {
      if (end !== undefined) return end;
      // It may end while it is asked.
      const status = await launcher.migration().catch(() => undefined);
      if (status?.phase === "Failed") throw new Error(`the machine did not move: ${status.message}`);
      return undefined;
    };
    return await waitFor(look, { what: "the move", timeoutMs: MOVE_MS + 60_000, intervalMs: 500 });
  }

  /** What the guest's load has seen. */
  async seen(): Promise<Seen> {
    return seen.parse(JSON.parse(await this.#fetch(GUEST, LOAD_PORT)));
  }

  /** Waits until each part of the load has done its work once. */
  async #isLoaded(): Promise<void> {
    const look = async () => {
      const { memoryRounds, diskRounds, ticks } = await this.seen();
      return Math.min(memoryRounds, diskRounds, ticks) > 0 || undefined;
    };
    await waitFor(look, { what: "each part of the guest's load", timeoutMs: shellMs, intervalMs: 1000 });
  }

  async stream(): Promise<StreamState> {
    return JSON.parse(await this.#fetch(BRIDGE, STREAM_STATE_PORT)) as StreamState;
  }

  async #fetch(address: string, port: number): Promise<string> {
    return await waitFor(
      async () => {
        const line = `timeout 60 bash -c 'cat </dev/tcp/${address}/${port}'`;
        return (await this.#lab.run(`ip netns exec ${this.#namespace} ${line} || true`)) || undefined;
      },
      { what: `an answer of ${address} at port ${port}`, timeoutMs: shellMs, intervalMs: 1000 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#guest?.[Symbol.asyncDispose]();
    if (this.#server) await this.#lab.run(`kill ${this.#server} || true`);
    await this.#lab.run(`ip netns del ${this.#namespace} || true; rm -rf ${this.#directory}`);
  }
}
