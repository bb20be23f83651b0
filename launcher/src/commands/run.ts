import { exitCodes } from "../../api/control.ts";
import type { InterfaceConfig, MachineConfig } from "../../api/machine-config.ts";
import { type AskOptions, askAgent, type Granted } from "../agent-client/agent-client.ts";
import { grantedLink, tapWant } from "../agent-client/interface-links.ts";
import { withCopiedDisks, withMovedDisks } from "../config/copied-disks.ts";
import { ConfigInvalid } from "../config/field.ts";
import { readMachineConfig } from "../config/machine-config.ts";
import { defaultPort, GuestConsole } from "../control/console/guest-console.ts";
import { openKvm } from "../kvm/system.ts";
import { errorText } from "../log/error-text.ts";
import { jsonLogger, type Logger, writeToStdout } from "../log/logger.ts";
import type { AssembleMachine, MachineDependencies, StartableMachine } from "../machine/machine-dependencies.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import type { MigrationTarget } from "../migration/target.ts";
import { NetworkError, type NetworkLink, NetworkNotReady } from "../net/network-link.ts";
import { openLink } from "../net/open-link.ts";
import { readResolver } from "../net/resolver.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { within } from "../sys/within.ts";
import { launcherVersion } from "../version.ts";
import { openControlPlane } from "./control-plane.ts";
import type { Origin } from "./run-options.ts";
import { settleHeapLater } from "./settle-heap.ts";
import { StopSignals } from "./stop-signals.ts";
import { type Termination, terminationPathOfBrokenConfig, writeTermination } from "./termination.ts";
import { terminationOf } from "./termination-reason.ts";

/** An agent that restarts is back within seconds; one that is rolled out anew, within a minute. */
const AGENT_DEADLINE_MS = 60_000;
/** A disk that is added to a running guest: who asks for it tries again. */
const ATTACH_DEADLINE_MS = 3_000;
/** The agent has what is offered in its hands; meanwhile the guest waits. */
const ATTACH_EXCHANGE_MS = 200;
/** libuv's own default, for files and names. */
const POOL_THREADS = 4;
/** For disks without io_uring: requests that wait on slow storage each hold a thread, which costs 11 KiB. */
const POOL_THREADS_PER_DISK = 2;
/** A defect may have taken the machine's way to end with it. */
const EMERGENCY_STOP_MS = 2_000;

/**
 * `launcher run`: one machine, from machine.json to its end. Ends the process with the reason's exit code,
 * and leaves the reason in the termination message.
 */
export async function run(
  configPath: string,
  assemble: AssembleMachine,
  origin: Origin = { kind: "boot" },
): Promise<never> {
  let config: MachineConfig;
  try {
    const read = readMachineConfig(configPath);
    config = origin.kind === "migrated" ? withCopiedDisks(withMovedDisks(read, origin.moved), origin.copied) : read;
  } catch (error) {
    const log = jsonLogger("info", {}, writeToStdout);
    return end(terminationOf(error), terminationPathOfBrokenConfig(configPath), log);
  }
  sizeThreadPool(config.disks.length);
  const { namespace, name, uid } = config.identity;
  const log = jsonLogger(config.log.level, { namespace, name, uid }, writeToStdout);
  log.info("launcher starts", { reason: "ProcessStarted", version: launcherVersion, pid: process.pid });
  const machineRun = new MachineRun(config, log, origin);
  process.on("uncaughtException", (error) => void machineRun.crash(error));
  const termination = await machineRun.toItsEnd(assemble).catch((error: unknown) => machineRun.failed(error));
  return end(termination, config.terminationMessagePath, log);
}

/** libuv makes its threads when the first of them is needed, which nothing before this did. */
function sizeThreadPool(diskCount: number): void {
  process.env["UV_THREADPOOL_SIZE"] ??= String(POOL_THREADS + POOL_THREADS_PER_DISK * diskCount);
}

/** One machine's way through this process. */
class MachineRun {
  readonly #config: MachineConfig;
  readonly #log: Logger;
  readonly #origin: Origin;
  readonly #signals: StopSignals;
  #machine: StartableMachine | undefined;
  #crashing = false;

  constructor(config: MachineConfig, log: Logger, origin: Origin) {
    this.#config = config;
    this.#origin = origin;
    this.#log = log;
    this.#signals = new StopSignals(config.powerOffTimeoutMs, log);
  }

  async toItsEnd(assemble: AssembleMachine): Promise<Termination> {
    const { boot, console } = this.#config;
    const commandLine = "commandLine" in boot ? boot.commandLine : "";
    const guestConsole = new GuestConsole(console.historyBytes, defaultPort(commandLine));
    const machine = await this.#assemble(assemble, guestConsole);
    using _states = this.#logStates(machine);
    if (this.#signals.stopping.aborted) return this.#stopUnstarted(machine);
    this.#signals.stopBy((timeoutMs) => machine.stop(timeoutMs));
    const parts = { config: this.#config, machine, console: guestConsole, log: this.#log };
    const target = this.#origin.kind === "migrated" ? await this.#listen(machine, guestConsole) : undefined;
    if (!target) machine.start();
    const controlPlane = await openControlPlane({ ...parts, target });
    if (target) await Promise.race([target.running, machine.ended]);
    settleHeapLater();
    const termination = await machine.ended;
    const migration = termination.reason === "Migrated" ? await controlPlane.migrationResult() : undefined;
    await controlPlane.close();
    return { ...termination, ...(migration && { migration }) };
  }

  async #listen(machine: StartableMachine, guestConsole: GuestConsole): Promise<MigrationTarget> {
    const { migration, identity } = this.#config;
    if (!migration) throw new ConfigInvalid("migration", "is missing; --receive needs its certificate and port");
    const [{ MigrationTarget }, { readMachineTls }] = await Promise.all([
      import("../migration/target.ts"),
      import("../migration/tls.ts"),
    ]);
    const { address, port } = migration;
    const target = new MigrationTarget({
      machine: movable(machine),
      start: () => machine.start(),
      uid: identity.uid,
      address,
      port,
      tls: asConfig(() => readMachineTls(migration)),
      log: this.#log,
      restoreConsoles: (history) => guestConsole.restore(history),
    });
    try {
      await target.listen();
    } catch (error) {
      throw new ConfigInvalid("migration", `cannot be listened at (${errorText(error)}); free or correct its port`);
    }
    return target;
  }

  async #assemble(assemble: AssembleMachine, guestConsole: GuestConsole): Promise<StartableMachine> {
    const dependencies = await this.#dependencies(guestConsole);
    if (this.#origin.kind === "boot") {
      this.#machine = await assemble(this.#config, dependencies);
      return this.#machine;
    }
    if (this.#origin.kind === "migrated") {
      this.#machine = await assemble(this.#config, { ...dependencies, isIncoming: true, claimDisksLater: true });
      return this.#machine;
    }
    const { directory } = this.#origin;
    const { readSuspended, restoreSuspended } = await import("../migration/suspension.ts");
    const state = readSuspended(directory);
    const machine = await assemble(this.#config, { ...dependencies, isIncoming: true, keepLocalDisks: true });
    this.#machine = machine;
    guestConsole.restore(state.consoles);
    await restoreSuspended(movable(machine), directory, state);
    this.#log.info("machine goes on where it was suspended", { reason: "Restored", directory });
    return machine;
  }

  /** The end for an error that `toItsEnd` threw. */
  async failed(error: unknown): Promise<Termination> {
    await this.#stopAtOnce();
    if (error === this.#signals.stopping.reason)
      return { reason: "Stopped", message: "asked to stop before the machine ran" };
    const termination = terminationOf(error);
    if (termination.reason === "LauncherError") this.#logDefect(error);
    return termination;
  }

  /** A defect showed outside of what `toItsEnd` awaits: ends the process. */
  async crash(error: unknown): Promise<void> {
    this.#logDefect(error);
    if (this.#crashing) return;
    this.#crashing = true;
    const stopped = await this.#stopAtOnce();
    const termination: Termination = {
      reason: "LauncherError",
      message: `a defect of the launcher: ${errorText(error)}; its log has the stack`,
    };
    if (stopped) end(termination, this.#config.terminationMessagePath, this.#log);
    // With a vCPU still in the guest an orderly exit may hang: this one cannot.
    report(termination, this.#config.terminationMessagePath, this.#log);
    process.kill(process.pid, "SIGKILL");
  }

  async #dependencies({ serial, virtio }: GuestConsole): Promise<MachineDependencies> {
    const common = {
      console: serial,
      virtioConsole: virtio,
      log: this.#log,
      launcherVersion,
      resolver: readResolver(),
    };
    const { kvm } = this.#config;
    if ("devicePath" in kvm) {
      const openOwn = async (config: InterfaceConfig) => openLink(config);
      return { ...common, kvm: openKvm(kvm.devicePath), links: this.#ownLinks(), openLink: openOwn };
    }
    const options = {
      socketPath: kvm.agentSocketPath,
      deadlineMs: AGENT_DEADLINE_MS,
      log: this.#log,
      signal: this.#signals.stopping,
    };
    const openBlockDevice = async (path: string, access: { readOnly: boolean; direct: boolean }) =>
      only(await askAgent([{ kind: "block", path, ...access }], options));
    const takeAttachment = async (podUid: string) => {
      const [granted] = await askAgent([{ kind: "attachment", podUid }], {
        ...options,
        deadlineMs: ATTACH_DEADLINE_MS,
        exchangeTimeoutMs: ATTACH_EXCHANGE_MS,
      });
      return granted?.fds ?? [];
    };
    const openLater = (config: InterfaceConfig) =>
      this.#askForLink(config, { ...options, deadlineMs: ATTACH_DEADLINE_MS });
    return { ...common, ...(await this.#askForAll(options)), openBlockDevice, takeAttachment, openLink: openLater };
  }

  /** Of an interface that comes while the guest runs: its pod may not have the network yet. */
  async #askForLink(config: InterfaceConfig, options: AskOptions): Promise<NetworkLink> {
    const want = tapWant(config, this.#config);
    if (want === null) return openLink(config);
    try {
      const [granted] = await askAgent([want], options);
      return grantedLink(config, granted ?? { fds: [] });
    } catch (error) {
      if (error instanceof NetworkError) throw error;
      throw new NetworkNotReady(config.name, `it cannot be had yet: ${errorText(error)}`, { cause: error });
    }
  }

  /** /dev/kvm and all TAPs in one exchange: the machine starts the sooner. */
  async #askForAll(options: AskOptions): Promise<Pick<MachineDependencies, "kvm" | "links">> {
    const { interfaces = [] } = this.#config;
    const wants = interfaces.map((config) => tapWant(config, this.#config));
    const granted = await askAgent([{ kind: "kvm" }, ...wants.filter((want) => want !== null)], options);
    using cleanup = new DisposableStack();
    for (const { fds } of granted) for (const fd of fds) cleanup.use(fd);
    let next = 1;
    const links = interfaces.map((config, i) => {
      const link = wants[i] === null ? openLink(config) : grantedLink(config, granted[next++] ?? { fds: [] });
      return cleanup.use(link);
    });
    cleanup.move();
    return { kvm: only(granted.slice(0, 1)), links };
  }

  #ownLinks(): readonly NetworkLink[] {
    using cleanup = new DisposableStack();
    const links = (this.#config.interfaces ?? []).map((config) => cleanup.use(openLink(config)));
    cleanup.move();
    return links;
  }

  async #stopUnstarted(machine: StartableMachine): Promise<Termination> {
    await machine.stop(0);
    return { reason: "Stopped", message: "asked to stop before the machine ran" };
  }

  #logStates(machine: StartableMachine): Disposable {
    return machine.onState((state) => {
      const { reason, message } = machine.status();
      this.#log.info(`machine is ${state}`, { state, reason, message });
    });
  }

  #logDefect(error: unknown): void {
    const stack: unknown = Object(error).stack;
    const fields = { reason: "LauncherError", error: errorText(error) };
    this.#log.error("launcher failed", typeof stack === "string" ? { ...fields, stack } : fields);
  }

  /** True once no vCPU runs any more; false when that could not be had in time. */
  async #stopAtOnce(): Promise<boolean> {
    const machine = this.#machine;
    if (machine === undefined) return true;
    try {
      await within(EMERGENCY_STOP_MS, machine.stop(0), () => new Error(`it takes more than ${EMERGENCY_STOP_MS} ms`));
      return true;
    } catch (error) {
      this.#log.error("machine did not stop", { reason: "StopFailed", error: errorText(error) });
      return false;
    }
  }
}

function only([granted]: readonly Granted[]): OwnedFd {
  const fd = granted?.fds[0];
  if (fd === undefined) throw new TypeError("the node agent's client answers with as many descriptors as were asked");
  return fd;
}

function movable({ movable: found }: StartableMachine): MovableMachine {
  if (found === null) throw new TypeError("this machine cannot go on from elsewhere");
  return found;
}

function asConfig<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    throw new ConfigInvalid("migration", `its certificate cannot be read (${errorText(error)}); see its three paths`);
  }
}

function report(termination: Termination, path: string | undefined, log: Logger): void {
  const { reason, message } = termination;
  const fields = { reason, message, exitCode: exitCodes[reason] };
  if (exitCodes[reason] === 0) log.info("launcher ends", fields);
  else log.error("launcher ends", fields);
  if (path === undefined) return;
  try {
    writeTermination(path, termination);
  } catch (error) {
    log.warn("termination message cannot be written", { reason: "TerminationMessageLost", error: errorText(error) });
  }
}

function end(termination: Termination, path: string | undefined, log: Logger): never {
  report(termination, path, log);
  process.exit(exitCodes[termination.reason]);
}
