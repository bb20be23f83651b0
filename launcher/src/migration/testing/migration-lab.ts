import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineConfig } from "../../../api/machine-config.ts";
import type { MigrationResult, MigrationStatus } from "../../../api/migration.ts";
import type { TestMachine } from "../../machine/testing/test-machine.ts";
import { type KeyAndCertificate, TestAuthority } from "../../testing/certificates.ts";
import { freePorts } from "../../testing/free-ports.ts";
import { recordingLog } from "../../testing/recording-log.ts";
import { until } from "../../testing/until.ts";
import { MIGRATION_LIMITS } from "../limits.ts";
import { type MigrationPlan, MigrationSource } from "../source.ts";
import { MigrationTarget } from "../target.ts";
import type { MachineTls } from "../tls.ts";
import { RealLauncher } from "./real-launcher.ts";
import { TlsRelay, type TlsRelayOptions } from "./tls-relay.ts";

const UID = "00000000-0000-0000-0000-000000000000";
const NO_CONSOLES = { serial: new Uint8Array(0), virtio: new Uint8Array(0) };

/** Launchers of one machine, with its certificate, and a directory that goes with them. */
export class MigrationLab implements Disposable {
  readonly authority: TestAuthority;
  readonly own: KeyAndCertificate;
  readonly directory = mkdtempSync(join(tmpdir(), "migration-"));
  #launchers = 0;

  private constructor(authority: TestAuthority, own: KeyAndCertificate) {
    this.authority = authority;
    this.own = own;
    writeFileSync(join(this.directory, "ca.pem"), authority.certificate);
    writeFileSync(join(this.directory, "cert.pem"), own.cert);
    writeFileSync(join(this.directory, "key.pem"), own.key);
  }

  static async make(): Promise<MigrationLab> {
    const authority = await TestAuthority.create();
    return new MigrationLab(authority, await authority.issue("CN=machine-1"));
  }

  get tls(): MachineTls {
    return { ...this.own, ca: this.authority.certificate };
  }

  async launcher(changes: Partial<MachineConfig> = {}): Promise<RealLauncher> {
    // The second is for memory.
    const [port = 0] = await freePorts(2);
    const migration = {
      address: "127.0.0.1",
      port,
      certPath: join(this.directory, "cert.pem"),
      keyPath: join(this.directory, "key.pem"),
      caPath: join(this.directory, "ca.pem"),
    };
    return new RealLauncher(join(this.directory, `launcher-${++this.#launchers}`), { migration, ...changes });
  }

  /** A target in this process that listens, for the machine of UID; answers its port too. */
  async target(
    { machine }: TestMachine,
    limits = MIGRATION_LIMITS,
  ): Promise<{ target: MigrationTarget; port: number }> {
    const [port = 0] = await freePorts(2);
    const target = new MigrationTarget({
      ...this.#common,
      machine,
      start: () => machine.start(),
      address: "127.0.0.1",
      port,
      restoreConsoles: () => {},
      limits,
    });
    await target.listen();
    return { target, port };
  }

  /** The other side in this process; moves the machine at once. */
  source({ machine }: TestMachine, plan: MigrationPlan, limits = MIGRATION_LIMITS): MigrationSource {
    const own = { machine, launcherVersion: "test", consoles: () => NO_CONSOLES, limits };
    return new MigrationSource({ ...this.#common, ...own }, plan);
  }

  get #common() {
    return { uid: UID, tls: this.tls, log: recordingLog().log };
  }

  /** Before `target`, at RELAY_ADDRESS. */
  async relay(target: RealLauncher, onFrame: NonNullable<TlsRelayOptions["onFrame"]>): Promise<TlsRelay> {
    const ends = { address: RELAY_ADDRESS, targetAddress: "127.0.0.1", port: portOf(target) };
    return await new TlsRelay({ ...ends, tls: this.tls, onFrame }).listen();
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

export const RELAY_ADDRESS = "127.0.0.2";

export function portOf({ config }: RealLauncher): number {
  return config.migration?.port ?? 0;
}

export async function migrationOf(of: RealLauncher): Promise<MigrationStatus> {
  return (await of.call("GET", "/v1/migration")).value as unknown as MigrationStatus;
}

/** Asks a source to move; answers what it says to that. */
export async function begin(source: RealLauncher, target: RealLauncher, more: object = {}) {
  const request = { address: "127.0.0.1", port: portOf(target), ...more };
  return await source.call("POST", "/v1/migration/start", request);
}

export async function reaches(of: RealLauncher, phase: MigrationStatus["phase"]): Promise<MigrationStatus> {
  await until(async () => (await migrationOf(of)).phase === phase);
  return await migrationOf(of);
}

/** What came of it, once the source is Gone; throws where it is Failed. */
export async function moved(source: RealLauncher, target: RealLauncher, more: object = {}): Promise<MigrationResult> {
  const { status } = await begin(source, target, more);
  if (status !== 202) throw new Error(`the source answers ${status}`);
  return await gone(source);
}

export async function gone(source: RealLauncher): Promise<MigrationResult> {
  const { exitCode, termination } = await source.ended();
  if (exitCode !== 0 || termination?.reason !== "Migrated" || !termination.migration)
    throw new Error(`the source ended with ${exitCode}: ${source.output}`);
  return termination.migration;
}
