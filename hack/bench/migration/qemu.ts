import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "../../../launcher/src/testing/free-ports.ts";
import { ConsoleUser } from "../../lib/guest-console.ts";
import { waitFor } from "../../lib/step.ts";
import { MIB, repository } from "../bench-launcher.ts";
import { MEMORY_MIB, type MoveOptions, type MoveReport, type MovingGuest } from "./moving-guest.ts";
import { Qmp } from "./qmp.ts";

/** How QEMU carries memory: by the connection that carries all else, or by others beside it (multifd). */
export interface QemuWay {
  readonly tls: boolean;
  readonly multifd: boolean;
}

/** No limit: QEMU's own is 128 MiB a second. */
const MAX_BYTES_PER_SECOND = 2 ** 40;
const MOVE_DEADLINE_MS = 300_000;
const RUN_DEADLINE_MS = 60_000;

/** Of query-migrate; times in milliseconds. */
interface MigrationInfo {
  readonly status?: string;
  readonly "error-desc"?: string;
  readonly downtime?: number;
  readonly "total-time"?: number;
  readonly ram?: { readonly transferred: number; readonly "dirty-sync-count": number };
}

/** Two processes of Debian's QEMU, of the microvm machine without any device but the serial port. */
export class QemuGuest implements MovingGuest {
  readonly #way: QemuWay;
  readonly #directory: string;
  readonly #source: Qemu;
  #target: Qemu | undefined;
  #hasMoved = false;

  private constructor(way: QemuWay, directory: string, source: Qemu) {
    this.#way = way;
    this.#directory = directory;
    this.#source = source;
  }

  /** `directory` is this guest's own; `certificates` has ca, cert and key. */
  static async start(way: QemuWay, directory: string, certificates: string): Promise<QemuGuest> {
    const own = join(directory, "pki");
    mkdirSync(own, { recursive: true });
    for (const [name, ...as] of [
      ["ca", "ca-cert.pem"],
      ["cert", "server-cert.pem", "client-cert.pem"],
      ["key", "server-key.pem", "client-key.pem"],
    ] as const)
      for (const each of as) copyFileSync(join(certificates, name), join(own, each));
    const source = await Qemu.start(directory, "client");
    const guest = new QemuGuest(way, directory, source);
    await source.console.see("TESTGUEST READY", RUN_DEADLINE_MS);
    return guest;
  }

  async ask(command: string, answer: RegExp): Promise<string> {
    const { console } = this.#hasMoved ? await this.#other() : this.#source;
    console.type(`${command}\n`);
    return (await console.see(answer, RUN_DEADLINE_MS))[0];
  }

  async pids(): Promise<readonly number[]> {
    return [this.#source.pid, (await this.#other()).pid];
  }

  async move(options: MoveOptions): Promise<MoveReport> {
    const [source, target] = [this.#source, await this.#other()];
    const [port] = await freePorts(1);
    const uri = `tcp:127.0.0.1:${port}`;
    for (const { qmp } of [source, target]) await this.#configure(qmp, options);
    await target.qmp.ask("migrate-incoming", { uri });
    await source.qmp.ask("migrate", { uri });
    const isOver = async () => {
      const info = await source.qmp.ask<MigrationInfo>("query-migrate");
      if (info.status === "failed") throw new Error(`QEMU's migration failed: ${info["error-desc"]}`);
      return info.status === "completed" && info;
    };
    const wait = { timeoutMs: MOVE_DEADLINE_MS, intervalMs: 20 };
    const info = await waitFor(isOver, { ...wait, what: "QEMU's migration" });
    const runs = async () => (await target.qmp.ask<{ running: boolean }>("query-status")).running;
    await waitFor(runs, { ...wait, what: "QEMU's target to run" });
    this.#hasMoved = true;
    return {
      downtimeMs: info.downtime ?? Number.NaN,
      totalMs: info["total-time"] ?? Number.NaN,
      sentMiB: (info.ram?.transferred ?? Number.NaN) / MIB,
      rounds: info.ram?.["dirty-sync-count"] ?? Number.NaN,
    };
  }

  /** With a return path, the downtime that the source tells has the target's loading in it. */
  async #configure(qmp: Qmp, { connections, maxDowntimeMs }: MoveOptions): Promise<void> {
    const { tls, multifd } = this.#way;
    const on = ["auto-converge", "return-path", ...(multifd ? ["multifd"] : [])];
    const capabilities = on.map((capability) => ({ capability, state: true }));
    await qmp.ask("migrate-set-capabilities", { capabilities });
    await qmp.ask("migrate-set-parameters", {
      "downtime-limit": maxDowntimeMs,
      "max-bandwidth": MAX_BYTES_PER_SECOND,
      ...(multifd && { "multifd-channels": connections }),
      ...(tls && { "tls-creds": "tls", "tls-hostname": "127.0.0.1" }),
    });
  }

  async #other(): Promise<Qemu> {
    this.#target ??= await Qemu.start(this.#directory, "server");
    return this.#target;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
    await this.#target?.[Symbol.asyncDispose]();
  }
}

/** The source is TLS's client, the target its server. */
class Qemu implements AsyncDisposable {
  readonly console: ConsoleUser;
  readonly qmp: Qmp;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, console: ConsoleUser, qmp: Qmp) {
    this.#child = child;
    this.console = console;
    this.qmp = qmp;
  }

  static async start(directory: string, endpoint: "client" | "server"): Promise<Qemu> {
    const socket = join(directory, `${endpoint}.qmp`);
    const credentials = `tls-creds-x509,id=tls,dir=${join(directory, "pki")},endpoint=${endpoint},verify-peer=on`;
    const child = spawn(
      "qemu-system-x86_64",
      [
        ...["-M", "microvm,accel=kvm,isa-serial=on,rtc=on", "-cpu", "host,-arch-capabilities"],
        ...["-m", `${MEMORY_MIB}M`, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"],
        ...["-kernel", join(repository, "dist/testguest/testguest"), "-object", credentials],
        ...["-qmp", `unix:${socket},server=on,wait=off`],
        ...(endpoint === "server" ? ["-incoming", "defer"] : []),
      ],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    return new Qemu(child, new ConsoleUser(child.stdout, child.stdin), await Qmp.connect(socket));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.qmp[Symbol.dispose]();
    this.console.close();
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
  }
}
