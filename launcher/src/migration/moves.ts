import { isIP } from "node:net";
import type { HandOverDecision, MigrationRequest, MigrationStatus } from "../../api/migration.ts";
import type { Logger } from "../log/logger.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import type { ConsoleHistory } from "./codec/snapshot-codec.ts";
import { MigrationError } from "./migration-error.ts";
import { MAX_CONNECTIONS, USUAL_CONNECTIONS } from "./protocol.ts";
import { type MigrationPlan, MigrationSource } from "./source.ts";
import { readMachineTls, type TlsPaths } from "./tls.ts";

export interface MovesParts {
  readonly machine: MovableMachine;
  readonly uid: string;
  readonly launcherVersion: string;
  readonly consoles: () => ConsoleHistory;
  readonly tls: TlsPaths | undefined;
  readonly log: Logger;
}

const DEFAULTS = {
  connections: USUAL_CONNECTIONS,
  maxDowntimeMs: 300,
  deadlineMs: 3_600_000,
  bandwidthBytesPerSecond: 0,
  autoConverge: true,
} as const;

/** Migrations away from here, one after the other. */
export class Moves {
  readonly #parts: MovesParts;
  #source: MigrationSource | null = null;

  constructor(parts: MovesParts) {
    this.#parts = parts;
  }

  status(): MigrationStatus {
    return this.#source?.status() ?? { role: "none", phase: null, message: "no migration" };
  }

  /** Throws MigrationError where it cannot be, and TypeError with a sentence for a request that is none. */
  start(request: Readonly<Record<string, unknown>>): void {
    const plan = planOf(request);
    const { tls, machine, uid, launcherVersion, consoles, log } = this.#parts;
    if (!tls)
      throw new MigrationError("this machine has no certificate to migrate with; set migration in its configuration");
    const { cannotMove } = machine;
    if (cannotMove.length > 0) throw new MigrationError(`the machine cannot migrate: ${cannotMove.join("; ")}`);
    if (this.#source && this.#source.phase !== "Failed")
      throw new MigrationError(`a migration is under way: ${this.#source.phase}`);
    this.#source = new MigrationSource(
      { machine, uid, launcherVersion, consoles, log, tls: readMachineTls(tls) },
      plan,
    );
  }

  async cancel(): Promise<void> {
    if (!this.#source) throw new MigrationError("there is no migration to cancel");
    await this.#source.cancel();
  }

  async decide(winner: HandOverDecision): Promise<void> {
    if (!this.#source) throw new MigrationError("there is no migration to decide");
    await this.#source.decide(winner);
  }
}

const ID_MAX_LENGTH = 64;

type Limits = Readonly<
  Record<Exclude<keyof MigrationRequest, "id" | "address" | "autoConverge">, readonly [number, number]>
>;

const LIMITS: Limits = {
  port: [1, 65534],
  connections: [1, MAX_CONNECTIONS],
  maxDowntimeMs: [1, 60_000],
  deadlineMs: [1, 2 ** 31 - 1],
  bandwidthBytesPerSecond: [65_536, 10 ** 12],
};

/** Throws TypeError, which names the member. */
export function planOf(request: Readonly<Record<string, unknown>>): MigrationPlan {
  const { id, address, autoConverge = DEFAULTS.autoConverge, ...numbers } = request;
  if (id !== undefined && (typeof id !== "string" || id.length > ID_MAX_LENGTH))
    throw new TypeError(`id must be a text of at most ${ID_MAX_LENGTH} characters`);
  if (typeof address !== "string" || isIP(address) === 0) throw new TypeError("address must be an IP address");
  if (typeof autoConverge !== "boolean") throw new TypeError("autoConverge must be true or false");
  for (const [name, value] of Object.entries(numbers)) {
    const limits = LIMITS[name as keyof Limits];
    if (!limits)
      throw new TypeError(
        `there is no member ${name}; known are id, address, autoConverge, ${Object.keys(LIMITS).join(", ")}`,
      );
    if (typeof value !== "number" || !Number.isInteger(value) || value < limits[0] || value > limits[1])
      throw new TypeError(`${name} must be a whole number from ${limits[0]} to ${limits[1]}`);
  }
  if (numbers["port"] === undefined) throw new TypeError("port is missing");
  const given = numbers as unknown as { port: number };
  return { ...DEFAULTS, ...given, address, autoConverge, ...(id !== undefined && { id }) };
}
