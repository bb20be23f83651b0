import type { Socket } from "node:net";
import type { MachineConfig } from "../../api/machine-config.ts";
import type { MigrationResult } from "../../api/migration.ts";
import { ConfigInvalid } from "../config/field.ts";
import type { GuestConsole } from "../control/console/guest-console.ts";
import { closeServer } from "../control/http-limits.ts";
import { LauncherApi } from "../control/launcher-api.ts";
import { LoopLag } from "../control/loop-lag.ts";
import { listenForTelemetry } from "../control/telemetry-listener.ts";
import { telemetrySources } from "../control/telemetry-sources.ts";
import { listenOnUnixSocket } from "../control/unix-listener.ts";
import { listenForVsock } from "../control/vsock-listener.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import type { StartableMachine } from "../machine/machine-dependencies.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import type { MigrationControls } from "../migration/migration-controls.ts";
import type { MigrationTarget } from "../migration/target.ts";
import { launcherVersion } from "../version.ts";

export interface ControlPlaneParts {
  readonly config: MachineConfig;
  readonly machine: StartableMachine;
  readonly console: GuestConsole;
  readonly log: Logger;
  /** Of a launcher that takes its machine over. */
  readonly target?: MigrationTarget | undefined;
}

/** How long answers under way may take when the launcher ends. */
const CLOSE_GRACE_MS = 500;

/** All listeners of one launcher. */
export interface ControlPlane {
  /** Ends consoles behind their last output, and lets clients that wait have their answer. */
  close(): Promise<void>;
  /** Of a machine that has migrated away. */
  migrationResult(): Promise<MigrationResult | undefined>;
}

/** Opens the listeners that `config` names. What was opened is closed again where one fails. */
export async function openControlPlane(parts: ControlPlaneParts): Promise<ControlPlane> {
  const { config, machine, console, log } = parts;
  const { control, identity } = config;
  const { movable } = machine;
  const suspend = movable && ((directory: string) => suspendTo(movable, directory, console));
  const migration = movable && migrationOf(movable, parts);
  const api = new LauncherApi({
    machine,
    console,
    log,
    ...(suspend && migration && { suspend, migration: migration.load }),
  });
  const cleanup = new AsyncDisposableStack();
  try {
    const unix = await opening("control.socketPath", () => listenOnUnixSocket(api, control.socketPath));
    cleanup.defer(() => closeServer(unix, CLOSE_GRACE_MS));
    const { vsock } = machine;
    if (config.vsock !== undefined && vsock !== null) {
      const { socketPath } = config.vsock;
      const connect = (socket: Socket, port: number) => vsock.connect(socket, port);
      const listener = await opening("vsock.socketPath", () => listenForVsock(connect, socketPath));
      // Connections end with the machine.
      cleanup.defer(() => void listener.close());
    }
    if (control.telemetry !== undefined) {
      const lag = cleanup.use(new LoopLag().start());
      const sources = telemetrySources({
        machine,
        console,
        api,
        lag,
        migration: () => migration?.loaded()?.status(),
      });
      const labels = { namespace: identity.namespace, name: identity.name };
      const endpoint = control.telemetry;
      const telemetry = await opening("control.telemetry", () =>
        listenForTelemetry({ machine, sources, labels }, endpoint),
      );
      cleanup.defer(() => closeServer(telemetry, CLOSE_GRACE_MS));
    }
    if (control.https !== undefined) {
      // TLS costs memory and start-up time: it is loaded only where it is used.
      const { listenOnHttps } = await import("../control/https-listener.ts");
      const settings = control.https;
      const https = cleanup.use(await opening("control.https", () => listenOnHttps(api, settings, log)));
      cleanup.defer(() => closeServer(https.server, CLOSE_GRACE_MS));
    }
  } catch (error) {
    await cleanup.disposeAsync();
    throw error;
  }
  return {
    close: async () => {
      console.close();
      await cleanup.disposeAsync();
    },
    migrationResult: async () => (await migration?.load())?.status().result,
  };
}

/** What moves machines is loaded where one is. */
async function suspendTo(machine: MovableMachine, directory: string, console: GuestConsole): Promise<void> {
  const { suspend } = await import("../migration/suspension.ts");
  await suspend(machine, directory, () => console.history());
}

interface LazyMigration {
  readonly load: () => Promise<MigrationControls>;
  /** Undefined until somebody has asked for it. */
  readonly loaded: () => MigrationControls | undefined;
}

function migrationOf(machine: MovableMachine, parts: ControlPlaneParts): LazyMigration {
  let loading: Promise<MigrationControls> | undefined;
  let loaded: MigrationControls | undefined;
  const load = async () => {
    const [{ Moves }, { MigrationControls }] = await Promise.all([
      import("../migration/moves.ts"),
      import("../migration/migration-controls.ts"),
    ]);
    const { config, console, log, target } = parts;
    const { identity, migration: tls } = config;
    const consoles = () => console.history();
    const moves = new Moves({ machine, uid: identity.uid, launcherVersion, consoles, tls, log });
    loaded = new MigrationControls(moves, target ?? null);
    return loaded;
  };
  return {
    load: () => {
      loading ??= load();
      return loading;
    },
    loaded: () => loaded,
  };
}

/** A listener that cannot be opened is a fault of the field that asks for it. */
async function opening<Listener>(field: string, open: () => Promise<Listener>): Promise<Listener> {
  try {
    return await open();
  } catch (error) {
    throw new ConfigInvalid(field, `cannot be used (${errorText(error)}); free or correct what it names`);
  }
}
