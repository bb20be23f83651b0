import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachine, VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import { AGENT_MOUNT_PATH, AGENT_SOCKET_NAME } from "../../../../launcher/api/agent.ts";
import {
  type BootConfig,
  type DiskConfig,
  MACHINE_CONFIG_VERSION,
  type MachineConfig,
} from "../../../../launcher/api/machine-config.ts";
import { OPERATOR_COMMON_NAME } from "../../certificates/identities.ts";
import { identityOf, paths } from "./names.ts";
import { guestMemoryBytes } from "./overhead.ts";
import type { Settings } from "./settings.ts";

const QUEUES_MAX = 8;
const CONSOLE_HISTORY_BYTES = 64 * 1024;

/** A spec asks for something that no machine can be made of; the message names the field and the way out. */
export class SpecError extends Error {
  override readonly name = "SpecError";
  readonly field: string;

  constructor(field: string, message: string) {
    super(`${field} ${message}`);
    this.field = field;
  }
}

/** What the launcher is told; throws SpecError where the spec cannot be carried out. */
export function machineConfig(vm: VirtualMachine, settings: Settings): MachineConfig {
  const { spec } = vm;
  const { name, namespace, uid } = identityOf(vm);
  return {
    version: MACHINE_CONFIG_VERSION,
    identity: { name, namespace, uid },
    cpu: { count: spec.cpu.cores, model: spec.cpu.model },
    memory: { sizeBytes: guestMemoryBytes(spec) },
    boot: bootConfig(spec),
    disks: spec.disks.map((disk) => diskConfig(disk, spec.cpu.cores)),
    console: { historyBytes: CONSOLE_HISTORY_BYTES },
    control: {
      socketPath: `${paths.run}/control.sock`,
      https: {
        address: settings.listenAddress,
        port: settings.controlPort,
        certPath: `${paths.machine}/tls.crt`,
        keyPath: `${paths.machine}/tls.key`,
        caPath: `${paths.machine}/ca.crt`,
        allowedClients: [OPERATOR_COMMON_NAME],
      },
      telemetry: { address: settings.listenAddress, port: settings.telemetryPort },
    },
    kvm: { agentSocketPath: `${AGENT_MOUNT_PATH}/${AGENT_SOCKET_NAME}` },
    terminationMessagePath: paths.terminationMessage,
    powerOffTimeoutMs: spec.terminationGracePeriodSeconds * 1000,
    log: { level: settings.launcherLogLevel },
  };
}

function bootConfig(spec: VirtualMachineSpec): BootConfig {
  const kernel = spec.boot?.kernel;
  if (kernel === undefined) {
    throw new SpecError("spec.boot.kernel", "is missing: name the image and path of a kernel");
  }
  return {
    imageRoot: paths.bootImage,
    kernelPath: kernel.path,
    ...(kernel.initrd === undefined ? {} : { initrdPath: kernel.initrd }),
    commandLine: kernel.cmdline,
  };
}

function diskConfig(disk: Disk, cores: number): DiskConfig {
  if (disk.image === undefined) {
    throw new SpecError(`spec.disks[${disk.name}]`, "has a source that this version can not provide: use image");
  }
  return {
    name: disk.name,
    readOnly: disk.readOnly,
    queues: Math.min(cores, QUEUES_MAX),
    source: {
      kind: "image",
      imageRoot: `${paths.disks}/${disk.name}`,
      ...(disk.image.path === undefined ? {} : { path: disk.image.path }),
      overlayPath: `${paths.overlay}/${disk.name}.overlay`,
    },
  };
}
