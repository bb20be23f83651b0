import { getSystemErrorName } from "node:util";
import type { InterfaceConfig, MachineConfig } from "../../api/machine-config.ts";
import { buildAcpiTables } from "../acpi/tables.ts";
import { type KernelRequest, loadKernel } from "../boot/x86/load-kernel.ts";
import { errorText } from "../log/error-text.ts";
import { NetworkError } from "../net/network-link.ts";
import { type IoEngine, openDiskRing, openIoEngine } from "../storage/io-engine.ts";
import type { DiskEvents } from "../storage/storage.ts";
import { LoopPoller } from "../sys/loop-poller.ts";
import { createVirtioDevices, type VirtioDevices } from "../virtio/create-devices.ts";
import { Board } from "./board.ts";
import { BootFiles } from "./boot-files.ts";
import { Devices } from "./devices.ts";
import { LimitedLog } from "./limited-log.ts";
import { Machine } from "./machine.ts";
import type { MachineDependencies } from "./machine-dependencies.ts";
import { Milestones } from "./milestones.ts";
import { pollingHere } from "./polling.ts";

/**
 * Builds the machine of a configuration, ready to `start`.
 * Throws KvmUnavailable, BootImageError, DiskError or NetworkError, each with the way out; nothing is left open then.
 */
export async function assembleMachine(config: MachineConfig, dependencies: MachineDependencies): Promise<Machine> {
  const milestones = new Milestones(() => performance.now());
  const { console, kvm, log, launcherVersion } = dependencies;
  await using resources = new AsyncDisposableStack();
  for (const link of dependencies.links ?? []) resources.use(link);
  const boardConfig = { cpuCount: config.cpu.count, memorySizeBytes: config.memory.sizeBytes };
  const board = resources.use(new Board(kvm, boardConfig, (step) => milestones.mark(step)));
  const bootFiles = resources.use(new BootFiles(config.boot));
  const polling = pollingHere(config.polling);
  const poller = polling.settings && new LoopPoller(polling.settings);
  const ioEngine = openIoEngine(() => openDiskRing(poller));
  log.info("I/O engine of the disks", {
    engine: ioEngine.name,
    ...(ioEngine.reason && { reason: ioEngine.reason }),
    polling: polling.description,
  });
  const virtio = await makeVirtioDevices(config, dependencies, board, { ioEngine, poller });
  resources.defer(() => virtio.close());
  milestones.mark("devices");
  const byFirmware = "firmwarePath" in config.boot;
  const commandLine = "commandLine" in config.boot ? config.boot.commandLine : "";
  const load = () => {
    const rsdp = buildAcpiTables({ memory: board.memory, cpuCount: config.cpu.count });
    const request: KernelRequest = { ...bootFiles, commandLine, memory: board.memory, rsdp };
    return loadKernel(request);
  };
  if (!dependencies.isIncoming) {
    board.setEntry(await load());
    milestones.mark("kernel");
  }
  const onCloseError = (device: string, error: unknown) =>
    log.error("device cannot be closed", { reason: "DeviceCloseFailed", device, error: errorText(error) });
  const machine = new Machine({
    uid: config.identity.uid,
    board,
    devices: (events) => new Devices({ board, console, events, virtio, pciPorts: byFirmware, onCloseError }),
    virtio,
    openLink: dependencies.openLink ?? noLink,
    load,
    bootFiles,
    milestones,
    ioEngine: ioEngine.name,
    poller,
    log,
    launcherVersion,
  });
  resources.move();
  return machine;
}

async function noLink({ name }: InterfaceConfig): Promise<never> {
  throw new NetworkError(name, "no interface can come to this machine while it runs");
}

function makeVirtioDevices(
  { disks, interfaces = [], vsock }: MachineConfig,
  dependencies: MachineDependencies,
  { memory, msi, msiWires, doorbells }: Board,
  { ioEngine, poller }: { readonly ioEngine: IoEngine; readonly poller: LoopPoller | null },
): Promise<VirtioDevices> {
  const { log, openBlockDevice, takeAttachment, virtioConsole, keepLocalDisks, links = [], resolver } = dependencies;
  const limited = new LimitedLog(log, () => performance.now());
  const onFault = (device: string, error: Error) =>
    limited.warn("device failed", { reason: "DeviceFailed", device, error: error.message });
  const onIoError = (disk: string, errno: number) =>
    limited.warn("disk failed a request", { reason: "DiskFailed", disk, error: getSystemErrorName(-errno) });
  const diskEvents: DiskEvents = {
    opened: (disk, description) => log.debug("disk opened", { disk, description }),
    damaged: (disk, problem) => limited.warn("disk image is damaged", { reason: "DiskDamaged", disk, problem }),
  };
  return createVirtioDevices({
    host: { memory, msi, msiWires, doorbells, onFault, ...(poller && { poller }) },
    disks,
    interfaces: interfaces.map((config, i) => {
      const link = links[i];
      if (!link) throw new TypeError(`interface ${config.name} has no link`);
      return { config, link };
    }),
    resolver,
    pool: ioEngine.pool,
    console: virtioConsole,
    vsock,
    openBlockDevice,
    takeAttachment,
    keepLocalDisks,
    isIncoming: dependencies.claimDisksLater,
    onIoError,
    diskEvents,
  });
}
