import { join } from "node:path";
import type { MachineConfig } from "../../../launcher/api/machine-config.ts";
import type { MigrationResult, MigrationStatus } from "../../../launcher/api/migration.ts";
import { RealLauncher } from "../../../launcher/src/migration/testing/real-launcher.ts";
import { freePorts } from "../../../launcher/src/testing/free-ports.ts";
import { launcherBundle, MIB } from "../bench-launcher.ts";
import { MEMORY_MIB, type MoveOptions, type MoveReport, type MovingGuest } from "./moving-guest.ts";

/** Two launchers. */
export class LauncherGuest implements MovingGuest {
  readonly #parts: LauncherParts;
  readonly #source: RealLauncher;
  #target: RealLauncher | undefined;
  #hasMoved = false;

  private constructor(parts: LauncherParts, source: RealLauncher) {
    this.#parts = parts;
    this.#source = source;
  }

  static async start(parts: LauncherParts): Promise<LauncherGuest> {
    const source = await launcher(parts, "source");
    await source.start();
    await source.attach();
    await source.said("READY");
    return new LauncherGuest(parts, source);
  }

  async ask(command: string, answer: RegExp): Promise<string> {
    return await (this.#hasMoved ? await this.#other() : this.#source).ask(command, answer);
  }

  async pids(): Promise<readonly number[]> {
    return [this.#source.pid, (await this.#other()).pid];
  }

  async move({ connections, maxDowntimeMs }: MoveOptions): Promise<MoveReport> {
    const target = await this.#other();
    const { address, port } = target.config.migration ?? {};
    const request = { address, port, connections, maxDowntimeMs };
    const { value } = await this.#source.call("POST", "/v1/migration/start", request);
    if ((value as unknown as MigrationStatus).role !== "source") throw new Error(JSON.stringify(value));
    await this.#source.ended();
    this.#hasMoved = true;
    await target.attach();
    const { downtimeMs, totalMs, sentBytes, diskSentBytes, rounds, ...split } = resultOf(this.#source);
    const { haltMs, lastPassMs, stateMs, loadMs, resumeMs } = split;
    const parts = { haltMs, lastPassMs, stateMs, loadMs, resumeMs, diskSentMiB: diskSentBytes / MIB };
    return { downtimeMs, totalMs, sentMiB: sentBytes / MIB, rounds, parts };
  }

  async #other(): Promise<RealLauncher> {
    this.#target ??= await (await launcher(this.#parts, "target")).start("--receive");
    return this.#target;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
    await this.#target?.[Symbol.asyncDispose]();
  }
}

export interface LauncherParts {
  /** This guest's own. */
  readonly directory: string;
  /** Has ca, cert and key. */
  readonly certificates: string;
  /** Of the role's own. */
  readonly disks: (role: string) => MachineConfig["disks"];
}

async function launcher({ directory, certificates, disks }: LauncherParts, role: string): Promise<RealLauncher> {
  // The second is for memory.
  const [port = 0] = await freePorts(2);
  const at = (name: string) => join(certificates, name);
  const migration = { address: "127.0.0.1", port, certPath: at("cert"), keyPath: at("key"), caPath: at("ca") };
  const changes = { migration, memory: { sizeBytes: MEMORY_MIB * MIB }, disks: disks(role) };
  return new RealLauncher(join(directory, role), changes, launcherBundle);
}

/** The source tells its result in its log, since it ends with it. */
function resultOf({ output }: RealLauncher): MigrationResult & MigrationResult["split"] {
  const line = output.split("\n").find((each) => each.includes('"machine is migrated"'));
  if (!line) throw new Error(`no result: ${output.slice(-2000)}`);
  return JSON.parse(line);
}
