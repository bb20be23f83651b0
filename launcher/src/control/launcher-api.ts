import type { IncomingMessage, ServerResponse } from "node:http";
import { type Duplex, finished } from "node:stream";
import { CONSOLE_UPGRADE, type ConsolePortName, type LauncherStatus, type MachineState } from "../../api/control.ts";
import type { MigrationStatus } from "../../api/migration.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import { IllegalTransition, type MachineControls, PauseAborted } from "../machine/control-surface.ts";
import type { MigrationControls } from "../migration/migration-controls.ts";
import { MigrationError } from "../migration/migration-error.ts";
import { SuspensionError } from "../migration/suspension-error.ts";
import { NetworkError, NetworkNotReady } from "../net/network-link.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { DiskError, DiskNotReady } from "../storage/disk-error.ts";
import { UnknownDisk } from "../virtio/block/disks.ts";
import { UnknownInterface } from "../virtio/net/interfaces.ts";
import { RequestRefused, sendJson, sendRefusal } from "./api-error.ts";
import { type AttachOptions, ConsoleBusy, type GuestConsole } from "./console/guest-console.ts";
import {
  allowOnly,
  allowOnlyMembers,
  choice,
  diskConfigFrom,
  diskSizeFrom,
  interfaceConfigFrom,
  overlayLimitFrom,
  parseTarget,
  readBody,
  type Target,
  timeoutFrom,
} from "./request-input.ts";
import { waitForState } from "./state-wait.ts";

const STATES: readonly MachineState[] = ["Starting", "Running", "Paused", "Stopping", "Ended"];
const DEFAULT_WAIT_MS = 30_000;
const CONSOLE_PATH = "/v1/console";
/** NAME stands for the name of a disk or interface in the list of routes, and in metrics. */
const RESIZE_PATH = "/v1/disks/NAME/resize";
const OVERLAY_LIMIT_PATH = "/v1/disks/NAME/overlay-limit";
const DISKS_PATH = "/v1/disks";
const DISK_PATH = "/v1/disks/NAME";
const DISK_PATTERN = /^\/v1\/disks\/([a-z0-9-]{1,20})(\/resize|\/overlay-limit)?$/;
const LINK_PATH = "/v1/interfaces/NAME/link";
const INTERFACES_PATH = "/v1/interfaces";
const INTERFACE_PATH = "/v1/interfaces/NAME";
const INTERFACE_PATTERN = /^\/v1\/interfaces\/([a-z0-9-]{1,63})(\/link)?$/;
const METHODS = ["GET", "POST", "DELETE"] as const;
const CONSOLE_PORTS: readonly [ConsolePortName, ...ConsolePortName[]] = ["serial", "virtio"];

type Answer = { readonly status: number; readonly value: LauncherStatus | MigrationStatus };
type Handler = (request: IncomingMessage, target: Target, signal: AbortSignal) => Promise<Answer>;

/** What the API acts on. */
export interface LauncherApiParts {
  readonly machine: MachineControls;
  readonly console: GuestConsole;
  readonly log: Logger;
  /** Writes the machine into a directory, and ends it here; absent where it cannot be. */
  readonly suspend?: ((directory: string) => Promise<void>) | undefined;
  /** Loaded when it is first asked for; absent where the machine can not migrate. */
  readonly migration?: (() => Promise<MigrationControls>) | undefined;
}

/** The routes of the Launcher API, for any listener. Who may ask is the listener's business. */
export class LauncherApi {
  readonly #machine: MachineControls;
  readonly #parts: LauncherApiParts;
  readonly #console: GuestConsole;
  readonly #log: Logger;
  readonly #routes: ReadonlyMap<string, { readonly method: string; readonly handle: Handler }>;
  /** Requests answered, by "METHOD path status"; unknown paths count as "other". */
  readonly requests = new Map<string, number>();

  constructor(parts: LauncherApiParts) {
    this.#parts = parts;
    this.#machine = parts.machine;
    this.#console = parts.console;
    this.#log = parts.log;
    const action = (act: () => Promise<void> | void) => ({ method: "POST", handle: this.#action(act) });
    this.#routes = new Map([
      ["/v1/status", { method: "GET", handle: this.#status }],
      ["/v1/pause", action(() => this.#machine.pause())],
      ["/v1/resume", action(() => this.#machine.resume())],
      ["/v1/power-button", action(() => this.#machine.pressPowerButton())],
      ["/v1/reset", action(() => this.#machine.reset())],
      [RESIZE_PATH, { method: "POST", handle: this.#resizeDisk }],
      [OVERLAY_LIMIT_PATH, { method: "POST", handle: this.#limitOverlay }],
      [DISKS_PATH, { method: "POST", handle: this.#attachDisk }],
      [DISK_PATH, { method: "DELETE", handle: this.#detachDisk }],
      [INTERFACES_PATH, { method: "POST", handle: this.#attachInterface }],
      [INTERFACE_PATH, { method: "DELETE", handle: this.#detachInterface }],
      [LINK_PATH, { method: "POST", handle: this.#setLink }],
      ["/v1/migration", { method: "GET", handle: this.#migrationStatus }],
      ["/v1/migration/start", { method: "POST", handle: this.#migrationStart }],
      ["/v1/migration/cancel", { method: "POST", handle: this.#migrationCancel }],
      ["/v1/migration/decide", { method: "POST", handle: this.#migrationDecide }],
      ["/v1/suspend", { method: "POST", handle: this.#suspend }],
      ["/v1/stop", { method: "POST", handle: this.#stop }],
      [CONSOLE_PATH, { method: "GET", handle: this.#consoleWithoutUpgrade }],
    ]);
  }

  /** Answers one request; never throws. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const abort = new AbortController();
    finished(response, () => abort.abort(new Error("the client has gone")));
    try {
      const target = parseTarget(request.url);
      const answer = await this.#route(request, target)(request, target, abort.signal);
      sendJson(response, answer.status, answer.value);
    } catch (error) {
      if (abort.signal.aborted || response.headersSent) response.destroy();
      else sendRefusal(response, this.#refusal(error));
    }
    this.#count(request, response.statusCode);
  }

  /** Answers a request to upgrade: joins the socket to the console, or refuses and closes it. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      const options = this.#consoleOptions(request);
      if (head.length > 0) socket.unshift(head);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${CONSOLE_UPGRADE}\r\n\r\n`);
      this.#console.attach(socket, options);
      this.#count(request, 101);
    } catch (error) {
      const refusal = this.#refusal(error);
      socket.on("error", () => socket.destroy());
      socket.end(refusal.rawResponse, () => socket.destroy());
      this.#count(request, refusal.status);
    }
  }

  #consoleOptions(request: IncomingMessage): AttachOptions {
    const target = parseTarget(request.url);
    this.#route(request, target);
    if (target.path !== CONSOLE_PATH || request.headers.upgrade?.toLowerCase() !== CONSOLE_UPGRADE)
      throw new RequestRefused("BadRequest", `only ${CONSOLE_PATH} can be upgraded, to ${CONSOLE_UPGRADE}`);
    allowOnly(target.query, ["access", "history", "port"]);
    const options = {
      write: choice(target.query, "access", ["read", "write"]) === "write",
      history: choice(target.query, "history", ["false", "true"]) === "true",
      port: target.query.has("port") ? choice(target.query, "port", CONSOLE_PORTS) : undefined,
    };
    if (!this.#console.hasRoom) throw new ConsoleBusy();
    return options;
  }

  #route(request: IncomingMessage, target: Target): Handler {
    const route = this.#routes.get(routeOf(target.path));
    if (route === undefined)
      throw new RequestRefused("NotFound", `there is no such route; known are ${[...this.#routes.keys()].join(", ")}`);
    if (request.method !== route.method)
      throw new RequestRefused("MethodNotAllowed", `${target.path} takes ${route.method} only`, {
        headers: { Allow: route.method },
      });
    return route.handle;
  }

  readonly #status: Handler = async (_request, { query }, signal) => {
    allowOnly(query, ["waitFor", "timeoutMs"]);
    const waitFor = query.get("waitFor");
    const timeoutMs = query.has("timeoutMs") ? timeoutFrom(query.get("timeoutMs")) : DEFAULT_WAIT_MS;
    if (waitFor === undefined) {
      if (query.has("timeoutMs")) throw new RequestRefused("BadRequest", "timeoutMs goes with waitFor only");
      return { status: 200, value: this.#machine.status() };
    }
    return { status: 200, value: await waitForState(this.#machine, parseStates(waitFor), timeoutMs, signal) };
  };

  #action(act: () => Promise<void> | void): Handler {
    return async (request, { query }) => {
      allowOnly(query, []);
      allowOnlyMembers(await readBody(request), []);
      await act();
      return { status: 200, value: this.#machine.status() };
    };
  }

  readonly #resizeDisk: Handler = async (request, { path, query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["sizeBytes"]);
    await this.#machine.deviceControls.growDisk(diskNameIn(path), diskSizeFrom(body["sizeBytes"]));
    return { status: 200, value: this.#machine.status() };
  };

  readonly #limitOverlay: Handler = async (request, { path, query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["bytes"]);
    this.#machine.deviceControls.limitOverlay(diskNameIn(path), overlayLimitFrom(body["bytes"]));
    return { status: 200, value: this.#machine.status() };
  };

  readonly #attachDisk: Handler = async (request, { query }) => {
    allowOnly(query, []);
    await this.#machine.deviceControls.attachDisk(diskConfigFrom(await readBody(request)));
    return { status: 200, value: this.#machine.status() };
  };

  readonly #detachDisk: Handler = async (request, { path, query }) => {
    allowOnly(query, []);
    allowOnlyMembers(await readBody(request), []);
    this.#machine.deviceControls.detachDisk(diskNameIn(path));
    return { status: 202, value: this.#machine.status() };
  };

  readonly #attachInterface: Handler = async (request, { query }) => {
    allowOnly(query, []);
    await this.#machine.deviceControls.attachInterface(interfaceConfigFrom(await readBody(request)));
    return { status: 200, value: this.#machine.status() };
  };

  readonly #detachInterface: Handler = async (request, { path, query }) => {
    allowOnly(query, []);
    allowOnlyMembers(await readBody(request), []);
    this.#machine.deviceControls.detachInterface(interfaceNameIn(path));
    return { status: 202, value: this.#machine.status() };
  };

  readonly #setLink: Handler = async (request, { path, query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["state"]);
    const { state } = body;
    if (state !== "up" && state !== "down") throw new RequestRefused("BadRequest", "state is up or down");
    this.#machine.deviceControls.setLink(interfaceNameIn(path), state);
    return { status: 200, value: this.#machine.status() };
  };

  readonly #migrationStatus: Handler = async (_request, { query }) => {
    allowOnly(query, []);
    return { status: 200, value: (await this.#migration()).status() };
  };

  readonly #migrationStart: Handler = async (request, { query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    const migration = await this.#migration();
    try {
      migration.start(body);
    } catch (error) {
      throw error instanceof TypeError ? new RequestRefused("BadRequest", error.message) : error;
    }
    return { status: 202, value: migration.status() };
  };

  readonly #migrationCancel: Handler = async (request, { query }) => {
    allowOnly(query, []);
    allowOnlyMembers(await readBody(request), []);
    const migration = await this.#migration();
    await migration.cancel();
    return { status: 200, value: migration.status() };
  };

  readonly #migrationDecide: Handler = async (request, { query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["winner"]);
    const { winner } = body;
    if (winner !== "source" && winner !== "target" && winner !== "neither")
      throw new RequestRefused("BadRequest", "winner is source, target or neither");
    const migration = await this.#migration();
    await migration.decide(winner);
    return { status: 200, value: migration.status() };
  };

  #migration(): Promise<MigrationControls> {
    if (!this.#parts.migration) throw new RequestRefused("Conflict", "this machine cannot migrate");
    return this.#parts.migration();
  }

  readonly #suspend: Handler = async (request, { query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["directory"]);
    const { directory } = body;
    if (typeof directory !== "string" || !directory.startsWith("/"))
      throw new RequestRefused("BadRequest", "directory must be an absolute path");
    if (this.#parts.suspend === undefined) throw new RequestRefused("Conflict", "this machine cannot be suspended");
    await this.#parts.suspend(directory);
    return { status: 200, value: this.#machine.status() };
  };

  readonly #stop: Handler = async (request, { query }) => {
    allowOnly(query, []);
    const body = await readBody(request);
    allowOnlyMembers(body, ["timeoutMs"]);
    const timeoutMs = timeoutFrom(body["timeoutMs"]);
    this.#machine.stop(timeoutMs).catch((error: unknown) => {
      this.#log.error("stop failed", { reason: "StopFailed", error: errorText(error) });
    });
    return { status: 202, value: this.#machine.status() };
  };

  readonly #consoleWithoutUpgrade: Handler = async () => {
    throw new RequestRefused("BadRequest", `the console needs the header Upgrade: ${CONSOLE_UPGRADE}`, {
      status: 426,
      headers: { Upgrade: CONSOLE_UPGRADE, Connection: "Upgrade" },
    });
  };

  #refusal(error: unknown): RequestRefused {
    if (error instanceof RequestRefused) return error;
    if (error instanceof IllegalTransition || error instanceof PauseAborted || error instanceof ConsoleBusy)
      return new RequestRefused("Conflict", error.message);
    if (error instanceof UnknownDisk || error instanceof UnknownInterface)
      return new RequestRefused("NotFound", error.message);
    if (error instanceof SuspensionError || error instanceof MigrationError)
      return new RequestRefused("Conflict", error.message);
    if (error instanceof DiskNotReady || error instanceof NetworkNotReady)
      return new RequestRefused("NotReady", error.message);
    if (error instanceof DiskError || error instanceof NetworkError || error instanceof PciSpaceError)
      return new RequestRefused("Conflict", error.message);
    this.#log.error("request failed", { reason: "RequestFailed", error: errorText(error) });
    return new RequestRefused("Internal", "the launcher failed at this request; its log says why");
  }

  #count(request: IncomingMessage, status: number): void {
    const path = routeOf(request.url?.split("?", 1)[0] ?? "");
    const known = this.#routes.has(path);
    // A client chooses method and path: only what is known may become a key.
    const method = METHODS.find((each) => each === request.method) ?? "GET";
    const key = known ? `${method} ${path} ${status}` : `GET other ${status}`;
    this.requests.set(key, (this.requests.get(key) ?? 0) + 1);
  }
}

function routeOf(path: string): string {
  const ofInterface = INTERFACE_PATTERN.exec(path);
  if (ofInterface) return ofInterface[2] === undefined ? INTERFACE_PATH : LINK_PATH;
  const match = DISK_PATTERN.exec(path);
  if (!match) return path;
  return `${DISK_PATH}${match[2] ?? ""}`;
}

function interfaceNameIn(path: string): string {
  return INTERFACE_PATTERN.exec(path)?.[1] ?? "";
}

function diskNameIn(path: string): string {
  return DISK_PATTERN.exec(path)?.[1] ?? "";
}

function parseStates(text: string): ReadonlySet<MachineState> {
  const states = new Set<MachineState>();
  for (const name of text.split(",")) {
    const state = STATES.find((each) => each === name);
    if (state === undefined)
      throw new RequestRefused("BadRequest", `waitFor takes ${STATES.join(", ")}, separated by commas`);
    states.add(state);
  }
  return states;
}
