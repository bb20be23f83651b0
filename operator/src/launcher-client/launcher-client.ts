import https from "node:https";
import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext, type SecureContext } from "node:tls";
import {
  type AttachDiskRequest,
  type AttachInterfaceRequest,
  type DiskState,
  type DiskStatus,
  LAUNCHER_API_VERSION,
  type LauncherStatus,
  type MachineState,
} from "../../../launcher/api/control.ts";
import { parseCpuFeatures } from "../../../launcher/api/cpu-features.ts";
import type { LinkState } from "../../../launcher/api/machine-config.ts";
import type { HandOverDecision, MigrationRequest, MigrationStatus } from "../../../launcher/api/migration.ts";
import type { ClientCredentials } from "../certificates/authority.ts";
import { machineServerName } from "../certificates/identities.ts";
import { messageOf } from "../runtime/errors.ts";
import { type Answer, parseGood } from "./answer.ts";
import { LauncherError } from "./launcher-error.ts";
import { parseMigration } from "./migration-answer.ts";
import { count, parseObjectValue, text } from "./untrusted.ts";

/** One launcher: where it is, and whose machine it must prove to be. */
export interface LauncherTarget {
  readonly ip: string;
  /** UID of the VirtualMachine. */
  readonly uid: string;
}

export interface LauncherClientOptions {
  /** The same object until they change. */
  readonly credentials: () => Promise<ClientCredentials>;
  readonly port: number;
}

export { LauncherError };

const CALL_TIMEOUT_MS = 5_000;
/** Longer than disks may take to come to rest, which who cancels has to wait for. */
const MIGRATION_TIMEOUT_MS = 15_000;
/** Beyond the server's own time for a long poll. */
const LONG_POLL_GRACE_MS = 5_000;
const ANSWER_MAX_BYTES = 1024 * 1024;
const MACHINE_STATES: readonly MachineState[] = ["Starting", "Running", "Paused", "Stopping", "Ended"];

/** Speaks the Launcher API to launchers, each verified by the UID of its machine. */
export class LauncherClient {
  readonly #options: LauncherClientOptions;
  #secured: { readonly credentials: ClientCredentials; readonly context: SecureContext } | undefined;

  constructor(options: LauncherClientOptions) {
    this.#options = options;
  }

  /** The state now. */
  status(target: LauncherTarget, signal?: AbortSignal): Promise<LauncherStatus> {
    return this.#call(target, { method: "GET", path: "/v1/status", timeoutMs: CALL_TIMEOUT_MS, signal });
  }

  /** The state once it is one of `states`; a LauncherError with isTimeout when it is not within `timeoutMs`. */
  waitFor(
    target: LauncherTarget,
    states: readonly MachineState[],
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<LauncherStatus> {
    const path = `/v1/status?waitFor=${states.join(",")}&timeoutMs=${timeoutMs}`;
    return this.#call(target, { method: "GET", path, timeoutMs: timeoutMs + LONG_POLL_GRACE_MS, signal });
  }

  pause(target: LauncherTarget): Promise<LauncherStatus> {
    return this.#call(target, { method: "POST", path: "/v1/pause", timeoutMs: CALL_TIMEOUT_MS });
  }

  resume(target: LauncherTarget): Promise<LauncherStatus> {
    return this.#call(target, { method: "POST", path: "/v1/resume", timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Has a disk of the running machine grow to `sizeBytes`. */
  resizeDisk(target: LauncherTarget, disk: string, sizeBytes: number): Promise<LauncherStatus> {
    const path = `/v1/disks/${encodeURIComponent(disk)}/resize`;
    return this.#call(target, { method: "POST", path, body: { sizeBytes }, timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Changes how much the overlay of a disk may take. */
  limitOverlay(target: LauncherTarget, disk: string, bytes: number): Promise<LauncherStatus> {
    const path = `/v1/disks/${encodeURIComponent(disk)}/overlay-limit`;
    return this.#call(target, { method: "POST", path, body: { bytes }, timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Gives the running machine a disk. */
  attachDisk(target: LauncherTarget, disk: AttachDiskRequest): Promise<LauncherStatus> {
    return this.#call(target, { method: "POST", path: "/v1/disks", body: disk, timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Has the guest asked to give up a disk; what it already gave up is no error. */
  detachDisk(target: LauncherTarget, disk: string): Promise<LauncherStatus> {
    return this.#detach(target, `/v1/disks/${encodeURIComponent(disk)}`);
  }

  /** Gives the running machine an interface. */
  attachInterface(target: LauncherTarget, config: AttachInterfaceRequest): Promise<LauncherStatus> {
    return this.#call(target, { method: "POST", path: "/v1/interfaces", body: config, timeoutMs: CALL_TIMEOUT_MS });
  }

  /** As detachDisk. */
  detachInterface(target: LauncherTarget, interfaceName: string): Promise<LauncherStatus> {
    return this.#detach(target, `/v1/interfaces/${encodeURIComponent(interfaceName)}`);
  }

  async #detach(target: LauncherTarget, path: string): Promise<LauncherStatus> {
    try {
      return await this.#call(target, { method: "DELETE", path, timeoutMs: CALL_TIMEOUT_MS });
    } catch (error) {
      if (error instanceof LauncherError && error.code === "NotFound") return await this.status(target);
      throw error;
    }
  }

  /** Plugs an interface of the running machine in or out. */
  setLink(target: LauncherTarget, interfaceName: string, state: LinkState): Promise<LauncherStatus> {
    const path = `/v1/interfaces/${encodeURIComponent(interfaceName)}/link`;
    return this.#call(target, { method: "POST", path, body: { state }, timeoutMs: CALL_TIMEOUT_MS });
  }

  /** What a launcher says of its migration, to or from there. */
  async migration(target: LauncherTarget): Promise<MigrationStatus> {
    return parseMigration(
      await this.#ask(target, { method: "GET", path: "/v1/migration", timeoutMs: CALL_TIMEOUT_MS }),
    );
  }

  /** Has the machine move from there. */
  startMigration(target: LauncherTarget, request: MigrationRequest): Promise<MigrationStatus> {
    return this.#postMigration(target, "start", request);
  }

  /** Answered once the machine runs on there; a LauncherError with the code Conflict where it is too late. */
  cancelMigration(target: LauncherTarget): Promise<MigrationStatus> {
    return this.#postMigration(target, "cancel", {});
  }

  /** Tells of a decision; a LauncherError with the code Conflict in phases where there is nothing to decide so. */
  decideMigration(target: LauncherTarget, winner: HandOverDecision): Promise<MigrationStatus> {
    return this.#postMigration(target, "decide", { winner });
  }

  async #postMigration(target: LauncherTarget, what: string, body: object): Promise<MigrationStatus> {
    const call = { method: "POST", path: `/v1/migration/${what}`, body, timeoutMs: MIGRATION_TIMEOUT_MS } as const;
    return parseMigration(await this.#ask(target, call));
  }

  /** Reading certificates costs more than all else of a call that finds nobody. */
  #secureContext(credentials: ClientCredentials): SecureContext {
    if (this.#secured?.credentials !== credentials) {
      const { certificate: cert, key, trust: ca } = credentials;
      this.#secured = { credentials, context: createSecureContext({ ca, cert, key, minVersion: "TLSv1.3" }) };
    }
    return this.#secured.context;
  }

  async #call(target: LauncherTarget, call: Call): Promise<LauncherStatus> {
    const { statusCode, body } = await this.#ask(target, call);
    return parseAnswer(statusCode, body);
  }

  async #ask(target: LauncherTarget, call: Call): Promise<Answer> {
    const secureContext = this.#secureContext(await this.#options.credentials());
    const deadline = AbortSignal.timeout(call.timeoutMs);
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const options: https.RequestOptions & ConnectionOptions = {
      host: target.ip,
      port: this.#options.port,
      method: call.method,
      path: call.path,
      // Checked against the certificate: the address may have gone to another pod meanwhile.
      servername: machineServerName(target.uid),
      secureContext,
      agent: false,
      signal: call.signal === undefined ? deadline : AbortSignal.any([call.signal, deadline]),
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json", "Content-Length": body.length }),
      },
    };
    const request = https.request(options);
    request.on("response", (response) => {
      readBounded(response).then((body) => resolve({ statusCode: response.statusCode ?? 0, body }), reject);
    });
    request.on("error", reject);
    request.end(body);
    return await promise.catch((error: unknown) => {
      const message = deadline.aborted ? `no answer within ${call.timeoutMs} ms` : messageOf(error);
      throw new LauncherError(0, "Unreachable", message);
    });
  }
}

interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

async function readBounded(response: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += chunk.length;
    if (size > ANSWER_MAX_BYTES) {
      throw new Error(`the answer is longer than ${ANSWER_MAX_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** A launcher's answer is as trustworthy as its guest: each field that is used is checked. */
export function parseAnswer(statusCode: number, body: string): LauncherStatus {
  const parsed = parseGood({ statusCode, body });
  const state = MACHINE_STATES.find((known) => known === parsed?.["state"]);
  if (parsed === undefined || state === undefined || parsed["apiVersion"] !== LAUNCHER_API_VERSION) {
    throw new LauncherError(
      statusCode,
      "BadAnswer",
      `answered with something else than a status: ${body.slice(0, 200)}`,
    );
  }
  const startedAt = text(parsed["startedAt"]);
  return {
    apiVersion: LAUNCHER_API_VERSION,
    launcherVersion: text(parsed["launcherVersion"]) ?? "",
    state,
    reason: text(parsed["reason"]) ?? "",
    message: text(parsed["message"]) ?? "",
    startedAt: startedAt === undefined || Number.isNaN(Date.parse(startedAt)) ? null : startedAt,
    reboots: count(parsed["reboots"]),
    guestPanicked: parsed["guestPanicked"] === true,
    cpus: count(parsed["cpus"]),
    memoryBytes: count(parsed["memoryBytes"]),
    milestones: {},
    exits: {},
    ...pauseOf(parsed["pause"]),
    ...disksOf(parsed["disks"]),
    ...interfacesOf(parsed["interfaces"]),
    ...movabilityOf(parsed),
  };
}

/** More than anyone reads. */
const OBSTACLES_MAX = 64;
const OBSTACLE_MAX_LENGTH = 500;

function movabilityOf(parsed: Record<string, unknown>): Pick<LauncherStatus, "cannotMove" | "cpuFeatures"> {
  const said = parsed["cannotMove"];
  const features = text(parsed["cpuFeatures"]);
  const obstacles = Array.isArray(said)
    ? said.slice(0, OBSTACLES_MAX).flatMap((each: unknown) => text(each) ?? [])
    : [];
  return {
    ...(Array.isArray(said) ? { cannotMove: obstacles.map((each) => each.slice(0, OBSTACLE_MAX_LENGTH)) } : {}),
    ...(features === undefined || parseCpuFeatures(features) === undefined ? {} : { cpuFeatures: features }),
  };
}

const DISK_STATES: readonly DiskState[] = ["Attaching", "Attached", "Detaching"];
/** More than a machine can have. */
const DISKS_MAX = 64;

function pauseOf(value: unknown): Pick<LauncherStatus, "pause"> {
  const pause = parseObjectValue(value);
  if (pause === undefined) return {};
  const full = Array.isArray(pause["storageFull"]) ? pause["storageFull"].slice(0, DISKS_MAX) : [];
  const storageFull = full.flatMap((name: unknown) => text(name) ?? []);
  return { pause: { asked: pause["asked"] === true, storageFull } };
}

function disksOf(value: unknown): Pick<LauncherStatus, "disks"> {
  if (!Array.isArray(value)) return {};
  const disks = value.slice(0, DISKS_MAX).flatMap((item: unknown) => {
    const disk = parseObjectValue(item);
    const name = text(disk?.["name"]);
    if (disk === undefined || name === undefined) return [];
    const state = DISK_STATES.find((known) => known === disk["state"]);
    const common = {
      name,
      sizeBytes: count(disk["sizeBytes"]),
      readOnly: disk["readOnly"] === true,
      ...overlayOf(disk["overlay"]),
    };
    return [state === undefined ? common : { ...common, state }];
  });
  return { disks };
}

function overlayOf(value: unknown): Pick<DiskStatus, "overlay"> {
  const overlay = parseObjectValue(value);
  if (overlay === undefined) return {};
  const limitBytes = overlay["limitBytes"] === undefined ? {} : { limitBytes: count(overlay["limitBytes"]) };
  return { overlay: { usedBytes: count(overlay["usedBytes"]), ...limitBytes, isFull: overlay["isFull"] === true } };
}

/** More than a machine can have, and more addresses than an interface can. */
const INTERFACES_MAX = 16;
const ADDRESSES_MAX = 8;

function interfacesOf(value: unknown): Pick<LauncherStatus, "interfaces"> {
  if (!Array.isArray(value)) return {};
  const interfaces = value.slice(0, INTERFACES_MAX).flatMap((item: unknown) => {
    const entry = parseObjectValue(item);
    const name = text(entry?.["name"]);
    const mac = text(entry?.["mac"]);
    if (entry === undefined || name === undefined || mac === undefined || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) {
      return [];
    }
    const said = Array.isArray(entry["addresses"]) ? entry["addresses"].slice(0, ADDRESSES_MAX) : [];
    const link: LinkState = entry["link"] === "down" ? "down" : "up";
    const dataPath = entry["dataPath"] === "vhost-net" ? ("vhost-net" as const) : ("inProcess" as const);
    const addresses = said.flatMap((address: unknown) => (typeof address === "string" && isIP(address) ? address : []));
    const mtuBytes = count(entry["mtuBytes"]);
    const state = DISK_STATES.find((known) => known === entry["state"]);
    return [
      { name, ...(state && { state }), mac, link, mtuBytes, queues: count(entry["queues"]), dataPath, addresses },
    ];
  });
  return { interfaces };
}
