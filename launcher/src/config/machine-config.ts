import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { POD_UID_PATTERN } from "../../api/agent.ts";
import {
  type BootConfig,
  type ConsoleConfig,
  type ControlConfig,
  type DiskConfig,
  type DiskLimits,
  type DiskSource,
  MACHINE_CONFIG_VERSION,
  type MachineConfig,
  type MachineIdentity,
  type MigrationConfig,
  type PollingConfig,
  VSOCK_PATH_MAX_BYTES,
  type VsockConfig,
} from "../../api/machine-config.ts";
import { errorText } from "../log/error-text.ts";
import { ConfigInvalid, Field } from "./field.ts";
import { interfaces } from "./interface-config.ts";

const MIB = 1024 * 1024;
/** A Secret holds at most 1 MiB. */
const FILE_MAX_BYTES = MIB;
/** PATH_MAX without the terminating zero. */
const PATH_MAX_BYTES = 4095;
/** sockaddr_un.sun_path without the terminating zero, and without the "~" of a socket that is not ready yet. */
const SOCKET_PATH_MAX_BYTES = 106;
/** EDK2 unpacks itself to 21 MiB, and needs room to work; with less it stops without a word. */
const FIRMWARE_MIN_BYTES = 64 * MIB;
/** Longest delay of a Node timer. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Reads and checks machine.json. Throws ConfigInvalid with one sentence that names the field and the way out. */
export function readMachineConfig(path: string): MachineConfig {
  return parseMachineConfig(readText(path));
}

/** Checks the text of machine.json; see readMachineConfig. */
export function parseMachineConfig(text: string): MachineConfig {
  if (Buffer.byteLength(text) > FILE_MAX_BYTES)
    throw new ConfigInvalid("", `is longer than ${FILE_MAX_BYTES} bytes; give a MachineConfig`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ConfigInvalid("", `is not JSON (${errorText(error)}); write it anew`);
  }
  return machine(new Field("", value));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigInvalid("", `cannot be read (${errorText(error)}); check the path and its permissions`);
  }
}

const FIELDS = [
  "version",
  "identity",
  "cpu",
  "memory",
  "boot",
  "disks",
  "interfaces",
  "vsock",
  "polling",
  "console",
  "control",
  "migration",
  "kvm",
  "terminationMessagePath",
  "powerOffTimeoutMs",
  "log",
] as const;

function machine(root: Field): MachineConfig {
  checkVersion(root);
  const fields = root.object(FIELDS);
  const sizeBytes = fields.memory
    .object(["sizeBytes"])
    .sizeBytes.integer({ min: 16 * MIB, max: 2 ** 52, multipleOf: MIB });
  const kvmSource = kvm(fields.kvm);
  const diskConfigs = disks(fields.disks);
  const interfaceConfigs = fields.interfaces.present ? interfaces(fields.interfaces, kvmSource) : undefined;
  const most = MAX_DISKS_AND_INTERFACES - (fields.vsock.present ? 1 : 0);
  if (diskConfigs.length + (interfaceConfigs?.length ?? 0) > most)
    fields.disks.fail(`and interfaces are more than ${most} together; remove some`);
  return {
    version: fields.version.oneOf([MACHINE_CONFIG_VERSION]),
    identity: identity(fields.identity),
    cpu: cpu(fields.cpu),
    memory: { sizeBytes },
    boot: boot(fields.boot, sizeBytes),
    disks: diskConfigs,
    ...(interfaceConfigs && { interfaces: interfaceConfigs }),
    ...(fields.vsock.present && { vsock: vsock(fields.vsock) }),
    ...(fields.polling.present && { polling: polling(fields.polling) }),
    console: consoleConfig(fields.console),
    control: control(fields.control),
    ...(fields.migration.present && { migration: migration(fields.migration) }),
    kvm: kvmSource,
    ...(fields.terminationMessagePath.present && {
      terminationMessagePath: absolutePath(fields.terminationMessagePath),
    }),
    powerOffTimeoutMs: fields.powerOffTimeoutMs.integer({ min: 0, max: TIMER_MAX_MS }),
    log: { level: fields.log.object(["level"]).level.oneOf(["debug", "info", "warn", "error"]) },
  };
}

function polling(field: Field): PollingConfig {
  const { windowUs, sharePercent } = field.object(["windowUs", "sharePercent"]);
  return {
    windowUs: windowUs.integer({ min: 0, max: 1000 }),
    sharePercent: sharePercent.integer({ min: 1, max: 100 }),
  };
}

/** The version stands before all else: another version's unknown fields are not the mistake to name. */
function checkVersion(root: Field): void {
  const version = root.loose("version");
  if (version.present) version.oneOf([MACHINE_CONFIG_VERSION]);
}

const DNS_NAME = {
  maxBytes: 253,
  pattern: /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/,
  wanted: "lower-case letters, digits, '-' and '.', as Kubernetes names are",
};

function identity(field: Field): MachineIdentity {
  const { name, namespace, uid } = field.object(["name", "namespace", "uid"]);
  return {
    name: name.string(DNS_NAME),
    namespace: namespace.string(DNS_NAME),
    uid: uid.string({
      maxBytes: 36,
      pattern: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
      wanted: "a lower-case UUID",
    }),
  };
}

function cpu(field: Field): MachineConfig["cpu"] {
  const { count, model } = field.object(["count", "model"]);
  return { count: count.integer({ min: 1, max: 64 }), model: model.oneOf(["Host"]) };
}

function boot(field: Field, memoryBytes: number): BootConfig {
  const { imageRoot, kernelPath, initrdPath, commandLine, firmwarePath } = field.object([
    "imageRoot",
    "kernelPath",
    "initrdPath",
    "commandLine",
    "firmwarePath",
  ]);
  if (firmwarePath.present) return firmwareBoot(field, memoryBytes);
  return {
    imageRoot: absolutePath(imageRoot),
    kernelPath: pathInImage(kernelPath),
    ...(initrdPath.present && { initrdPath: pathInImage(initrdPath) }),
    commandLine: commandLine.string({
      maxBytes: 2047,
      pattern: /^[\x20-\x7e]*$/,
      wanted: "one line of printable ASCII",
    }),
  };
}

function firmwareBoot(field: Field, memoryBytes: number): BootConfig {
  const { firmwarePath } = field.object(["firmwarePath"]);
  if (memoryBytes < FIRMWARE_MIN_BYTES)
    field.fail(`is by firmware, which needs ${FIRMWARE_MIN_BYTES / MIB} MiB of memory; raise memory.sizeBytes`);
  return { firmwarePath: absolutePath(firmwarePath) };
}

/** Slots of PCI bus 0 that are left for disks. */
const MAX_DISKS = 24;
/** What the bus holds beside the host bridge, the entropy device and the console; a vsock takes one more. */
const MAX_DISKS_AND_INTERFACES = 29;

function disks(field: Field): readonly DiskConfig[] {
  const names = new Set<string>();
  return field.array(MAX_DISKS).map((entry) => {
    const parsed = disk(entry);
    const { name } = parsed;
    if (names.has(name))
      entry.loose("name").fail(`is "${name}", which another disk has too; give each disk its own name`);
    names.add(name);
    return parsed;
  });
}

/** Checks a DiskConfig that comes by itself. Throws ConfigInvalid with one sentence that names the field and the way out. */
export function parseDiskConfig(value: unknown): DiskConfig {
  return disk(new Field("", value));
}

function disk(field: Field): DiskConfig {
  const fields = field.object(["name", "readOnly", "queues", "source", "limits"]);
  const name = fields.name.string({
    maxBytes: 20,
    pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    wanted: "a DNS label (lower-case letters, digits and '-')",
  });
  const readOnly = fields.readOnly.boolean();
  const source = diskSource(fields.source);
  const wanted = readOnlyBy[source.kind];
  if (wanted !== undefined && wanted !== readOnly)
    fields.readOnly.fail(`is ${readOnly}; a disk of kind ${source.kind} takes ${wanted} only`);
  if ("copied" in source && source.copied && readOnly)
    fields.readOnly.fail("is true, and source.copied too, which takes a disk that can be written; drop one of them");
  const queues = fields.queues.integer({ min: 1, max: 64 });
  return { name, readOnly, queues, source, ...(fields.limits.present && { limits: diskLimits(fields.limits) }) };
}

function diskLimits(field: Field): DiskLimits {
  const { requestsPerSecond, bytesPerSecond } = field.object(["requestsPerSecond", "bytesPerSecond"]);
  return {
    ...(requestsPerSecond.present && { requestsPerSecond: requestsPerSecond.integer({ min: 1, max: 1e9 }) }),
    ...(bytesPerSecond.present && { bytesPerSecond: bytesPerSecond.integer({ min: 4096, max: 1e12 }) }),
  };
}

/** Kinds of disks that are one or the other by nature. */
const readOnlyBy: Partial<Readonly<Record<DiskSource["kind"], boolean>>> = {
  empty: false,
  files: true,
  cloudInit: true,
};

function diskSource(field: Field): DiskSource {
  const kind = field.loose("kind").oneOf(["image", "raw", "directory", "empty", "files", "cloudInit", "attachment"]);
  switch (kind) {
    case "image": {
      const image = field.object(["kind", "imageRoot", "path", "overlayPath", "overlayLimitBytes"]);
      return {
        kind,
        imageRoot: absolutePath(image.imageRoot),
        ...(image.path.present && { path: pathInImage(image.path) }),
        overlayPath: absolutePath(image.overlayPath),
        ...(image.overlayLimitBytes.present && { overlayLimitBytes: image.overlayLimitBytes.integer(OVERLAY_LIMIT) }),
      };
    }
    case "raw": {
      const { path, copied, sizeBytes } = field.object(["kind", "path", "copied", "sizeBytes"]);
      if (sizeBytes.present && !(copied.present && copied.boolean()))
        sizeBytes.fail("is for a disk that is copied; without copied: true a raw disk is all that is at its path");
      return {
        kind,
        path: absolutePath(path),
        ...(copied.present && { copied: copied.boolean() }),
        ...(sizeBytes.present && { sizeBytes: sizeBytes.integer(DISK_SIZE) }),
      };
    }
    case "directory": {
      const { path, sizeBytes, copied } = field.object(["kind", "path", "sizeBytes", "copied"]);
      const source = { kind, path: absolutePath(path), sizeBytes: sizeBytes.integer(DISK_SIZE) } as const;
      return { ...source, ...(copied.present && { copied: copied.boolean() }) };
    }
    case "empty": {
      const { path, sizeBytes } = field.object(["kind", "path", "sizeBytes"]);
      return { kind, path: absolutePath(path), sizeBytes: sizeBytes.integer(DISK_SIZE) };
    }
    case "files": {
      const files = field.object(["kind", "directory", "volumeLabel"]);
      return { kind, directory: absolutePath(files.directory), volumeLabel: files.volumeLabel.string(VOLUME_LABEL) };
    }
    case "cloudInit":
      return cloudInit(field);
    case "attachment":
      return { kind, podUid: field.object(["kind", "podUid"]).podUid.string(POD_UID) };
  }
}

const POD_UID = { maxBytes: 36, pattern: POD_UID_PATTERN, wanted: "the UID of a pod" };
const OVERLAY_LIMIT = { min: MIB, max: 2 ** 50 };
/** In bytes, of any disk. */
export const DISK_SIZE = { min: 512, max: 2 ** 50, multipleOf: 512 };
/** ISO 9660 has room for 32 bytes. */
const VOLUME_LABEL = {
  maxBytes: 32,
  pattern: /^[-_.A-Za-z0-9]+$/,
  wanted: "a label of letters, digits, '_', '-' and '.'",
};
const INSTANCE_ID = {
  maxBytes: 128,
  pattern: /^[-_.A-Za-z0-9]+$/,
  wanted: "letters, digits, '_', '-' and '.'",
};

function cloudInit(field: Field): DiskSource {
  const { userDataPath, networkDataPath, instanceId, localHostname } = field.object([
    "kind",
    "userDataPath",
    "networkDataPath",
    "instanceId",
    "localHostname",
  ]);
  return {
    kind: "cloudInit",
    ...(userDataPath.present && { userDataPath: absolutePath(userDataPath) }),
    ...(networkDataPath.present && { networkDataPath: absolutePath(networkDataPath) }),
    instanceId: instanceId.string(INSTANCE_ID),
    localHostname: localHostname.string(DNS_NAME),
  };
}

function vsock(field: Field): VsockConfig {
  const { socketPath, guestCid } = field.object(["socketPath", "guestCid"]);
  return {
    socketPath: socketPath.string({ maxBytes: VSOCK_PATH_MAX_BYTES, pattern: /^\//, wanted: "an absolute path" }),
    guestCid: guestCid.integer({ min: 3, max: 2 ** 32 - 2 }),
  };
}

function consoleConfig(field: Field): ConsoleConfig {
  return { historyBytes: field.object(["historyBytes"]).historyBytes.integer({ min: 0, max: 16 * MIB }) };
}

function control(field: Field): ControlConfig {
  const { socketPath, https, telemetry } = field.object(["socketPath", "https", "telemetry"]);
  return {
    socketPath: unixSocketPath(socketPath),
    ...(https.present && { https: httpsConfig(https) }),
    ...(telemetry.present && { telemetry: endpoint(telemetry.object(["address", "port"])) }),
  };
}

function httpsConfig(field: Field): NonNullable<ControlConfig["https"]> {
  const https = field.object(["address", "port", "certPath", "keyPath", "caPath", "allowedClients"]);
  const allowedClients = https.allowedClients
    .array(16)
    .map((client) => client.string({ maxBytes: 253, pattern: /^[\x21-\x7e]+$/, wanted: "a common name" }));
  if (allowedClients.length === 0)
    https.allowedClients.fail("is empty; name at least one client, or leave out control.https");
  return {
    ...endpoint(https),
    certPath: absolutePath(https.certPath),
    keyPath: absolutePath(https.keyPath),
    caPath: absolutePath(https.caPath),
    allowedClients,
  };
}

function migration(field: Field): MigrationConfig {
  const fields = field.object(["address", "port", "certPath", "keyPath", "caPath"]);
  return {
    address: endpoint(fields).address,
    port: fields.port.integer({ min: 1, max: 65534 }),
    certPath: absolutePath(fields.certPath),
    keyPath: absolutePath(fields.keyPath),
    caPath: absolutePath(fields.caPath),
  };
}

function endpoint(fields: Readonly<Record<"address" | "port", Field>>): { address: string; port: number } {
  const wanted = "an IP address such as 10.0.0.7, 0.0.0.0 or ::";
  const address = fields.address.string({ maxBytes: 45, wanted });
  if (isIP(address) === 0) fields.address.fail(`is ${JSON.stringify(address)}; give ${wanted}`);
  return { address, port: fields.port.integer({ min: 1, max: 65535 }) };
}

function kvm(field: Field): MachineConfig["kvm"] {
  const { devicePath, agentSocketPath } = field.object(["devicePath", "agentSocketPath"]);
  if (devicePath.present === agentSocketPath.present)
    field.fail("needs exactly one of devicePath (such as /dev/kvm) and agentSocketPath");
  return devicePath.present
    ? { devicePath: absolutePath(devicePath) }
    : { agentSocketPath: unixSocketPath(agentSocketPath) };
}

function absolutePath(field: Field): string {
  return field.string({ maxBytes: PATH_MAX_BYTES, pattern: /^\//, wanted: "an absolute path" });
}

function unixSocketPath(field: Field): string {
  return field.string({ maxBytes: SOCKET_PATH_MAX_BYTES, pattern: /^\//, wanted: "an absolute path" });
}

/** A path inside an image: whether it leads anywhere is for who opens it. */
function pathInImage(field: Field): string {
  return field.string({ maxBytes: PATH_MAX_BYTES, pattern: /./su, wanted: "a path inside the image" });
}
