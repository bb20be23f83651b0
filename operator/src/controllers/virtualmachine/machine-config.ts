import type { Disk } from "../../../../crds/src/disk.ts";
import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine, VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import { AGENT_MOUNT_PATH, AGENT_SOCKET_NAME } from "../../../../launcher/api/agent.ts";
import { VSOCK_SOCKET_PATH } from "../../../../launcher/api/control.ts";
import {
  type BootConfig,
  type DiskConfig,
  type DiskLimits,
  MACHINE_CONFIG_VERSION,
  type MachineConfig,
} from "../../../../launcher/api/machine-config.ts";
import { OPERATOR_COMMON_NAME } from "../../certificates/identities.ts";
import { type Claims, claimDisks } from "./claims.ts";
import { allDiskParts, type DiskParts } from "./disk-parts.ts";
import { interfaceConfigs } from "./interfaces.ts";
import { identityOf, paths } from "./names.ts";
import { guestMemoryBytes } from "./overhead.ts";
import { overlayLimitBytes } from "./overlay-limits.ts";
import type { Settings } from "./settings.ts";
import { SpecError } from "./spec-error.ts";

const QUEUES_MAX = 8;
/** Each machine's own, since none sees another's. */
const GUEST_CID = 3;
const CONSOLE_HISTORY_BYTES = 64 * 1024;

/** Files of the machine's Secret. */
const machineCertificate = {
  certPath: `${paths.machine}/tls.crt`,
  keyPath: `${paths.machine}/tls.key`,
  caPath: `${paths.machine}/ca.crt`,
};

/** What the launcher is told; throws SpecError where the spec cannot be carried out. */
export function machineConfig(vm: VirtualMachine, settings: Settings, claims: Claims): MachineConfig {
  const { spec } = vm;
  const { name, namespace, uid } = identityOf(vm);
  return {
    version: MACHINE_CONFIG_VERSION,
    identity: { name, namespace, uid },
    cpu: { count: spec.cpu.cores, model: spec.cpu.model },
    memory: { sizeBytes: guestMemoryBytes(spec) },
    boot: bootConfig(spec),
    disks: diskConfigs(vm, settings, claims),
    interfaces: interfaceConfigs(vm, settings),
    ...(spec.vsock && { vsock: { socketPath: VSOCK_SOCKET_PATH, guestCid: GUEST_CID } }),
    ...(settings.polling && { polling: settings.polling }),
    console: { historyBytes: CONSOLE_HISTORY_BYTES },
    control: {
      socketPath: `${paths.run}/control.sock`,
      https: {
        address: settings.listenAddress,
        port: settings.controlPort,
        ...machineCertificate,
        allowedClients: [OPERATOR_COMMON_NAME],
      },
      telemetry: { address: settings.listenAddress, port: settings.telemetryPort },
    },
    migration: {
      address: settings.listenAddress,
      port: settings.migrationPort,
      ...machineCertificate,
    },
    kvm: { agentSocketPath: `${AGENT_MOUNT_PATH}/${AGENT_SOCKET_NAME}` },
    terminationMessagePath: paths.terminationMessage,
    powerOffTimeoutMs: spec.terminationGracePeriodSeconds * 1000,
    log: { level: settings.launcherLogLevel },
  };
}

function bootConfig(spec: VirtualMachineSpec): BootConfig {
  const kernel = spec.boot?.kernel;
  if (kernel === undefined) return { firmwarePath: paths.firmware };
  return {
    imageRoot: paths.bootImage,
    kernelPath: kernel.path,
    ...(kernel.initrd === undefined ? {} : { initrdPath: kernel.initrd }),
    commandLine: kernel.cmdline,
  };
}

/** The same for a disk that a running machine gets, from the attachment pod of that UID. */
export function hotDiskConfig(vm: VirtualMachine, { name, readOnly, limits }: Disk, podUid: string): DiskConfig {
  const source = { kind: "attachment", podUid } as const;
  return { name, readOnly, queues: queuesOf(vm), source, ...(limits && { limits: diskLimits(limits) }) };
}

function queuesOf(vm: VirtualMachine): number {
  return Math.min(vm.spec.cpu.cores, QUEUES_MAX);
}

function diskConfigs(vm: VirtualMachine, settings: Settings, claims: Claims): DiskConfig[] {
  const queues = queuesOf(vm);
  const parts = allDiskParts(vm, claims);
  checkSeeds(parts);
  checkClaims(vm);
  return vm.spec.disks.map((disk, index) => {
    const { source: found, readOnly } = parts[index] as DiskParts;
    const source = found.kind === "image" ? { ...found, overlayLimitBytes: overlayLimitBytes(disk, settings) } : found;
    return { name: disk.name, readOnly, queues, source, ...(disk.limits && { limits: diskLimits(disk.limits) }) };
  });
}

function diskLimits({ requestsPerSecond, bytesPerSecond }: NonNullable<Disk["limits"]>): DiskLimits {
  return {
    ...(requestsPerSecond === undefined ? {} : { requestsPerSecond }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond: parseQuantity(bytesPerSecond) }),
  };
}

/** The API server sees to it that no claim and no template is named twice; one may be the other's. */
function checkClaims(vm: VirtualMachine): void {
  const seen = new Map<string, string>();
  for (const { disk, claimName } of claimDisks(vm)) {
    const other = seen.get(claimName);
    if (other !== undefined) {
      const message = `is on PersistentVolumeClaim ${claimName}, as disk ${other} is; give each a claim of its own`;
      throw new SpecError(`spec.disks[${disk.name}]`, message);
    }
    seen.set(claimName, disk.name);
  }
}

/** An object of the API server ends at 1 MiB, so the machine's Secret does. */
const SEEDS_MAX_BYTES = 768 * 1024;

function checkSeeds(parts: readonly DiskParts[]): void {
  const seeds = parts.flatMap(({ secretData }) => Object.values(secretData));
  const bytes = seeds.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes > SEEDS_MAX_BYTES) {
    const found = `have ${Math.ceil(bytes / 1024)} KiB of inline cloudInit data, more than ${SEEDS_MAX_BYTES / 1024} KiB`;
    throw new SpecError("spec.disks", `${found}: use userDataSecretRef and networkDataSecretRef`);
  }
}
