import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ConfigInvalid } from "./field.ts";
import { parseMachineConfig, readMachineConfig } from "./machine-config.ts";

const MIB = 1024 * 1024;

const full = {
  version: 1,
  identity: { name: "web", namespace: "shop", uid: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11" },
  cpu: { count: 2, model: "Host" },
  memory: { sizeBytes: 512 * MIB },
  boot: {
    imageRoot: "/images/boot",
    kernelPath: "/boot/vmlinuz",
    initrdPath: "/boot/initrd.img",
    commandLine: "quiet",
  },
  disks: [
    {
      name: "root",
      readOnly: false,
      queues: 2,
      source: { kind: "image", imageRoot: "/images/root", path: "disk/a.img", overlayPath: "/scratch/root" },
    },
    { name: "data", readOnly: true, queues: 1, source: { kind: "raw", path: "/dev/data", copied: false } },
    {
      name: "claim",
      readOnly: false,
      queues: 1,
      source: { kind: "directory", path: "/disks/claim", sizeBytes: 1024 * MIB, copied: true },
    },
    { name: "scratch", readOnly: false, queues: 1, source: { kind: "empty", path: "/scratch/a", sizeBytes: 512 } },
    {
      name: "conf",
      readOnly: true,
      queues: 1,
      source: { kind: "files", directory: "/disks/conf", volumeLabel: "cfg_1" },
    },
    {
      name: "seed",
      readOnly: true,
      queues: 1,
      source: {
        kind: "cloudInit",
        userDataPath: "/config/user-data",
        networkDataPath: "/config/network-data",
        instanceId: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11",
        localHostname: "web",
      },
    },
  ],
  vsock: { socketPath: "/run/launcher/vsock.sock", guestCid: 3 },
  polling: { windowUs: 20, sharePercent: 10 },
  console: { historyBytes: 65536 },
  control: {
    socketPath: "/run/launcher/control.sock",
    https: {
      address: "::",
      port: 8443,
      certPath: "/tls/tls.crt",
      keyPath: "/tls/tls.key",
      caPath: "/tls/ca.crt",
      allowedClients: ["operator"],
    },
    telemetry: { address: "0.0.0.0", port: 8080 },
  },
  kvm: { agentSocketPath: "/run/typevisor/agent/agent.sock" },
  terminationMessagePath: "/dev/termination-log",
  powerOffTimeoutMs: 120_000,
  log: { level: "info" },
};

/** `full` with the value at `path` set, or removed when `value` is undefined. */
function changed(path: string, value: unknown): string {
  const copy = structuredClone(full) as Record<string, unknown>;
  const keys = path.split(".");
  const last = keys.pop() as string;
  let at = copy;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return JSON.stringify(copy);
}

function refusal(text: string): ConfigInvalid {
  try {
    parseMachineConfig(text);
  } catch (error) {
    if (error instanceof ConfigInvalid) return error;
    throw error;
  }
  throw new Error("accepted");
}

describe("a machine.json", () => {
  it("is read whole", () => {
    expect(parseMachineConfig(JSON.stringify(full))).toEqual(full);
  });

  it("may leave out what is optional, and the parsed config then lacks it too", () => {
    for (const path of [
      "boot.initrdPath",
      "vsock",
      "control.https",
      "control.telemetry",
      "terminationMessagePath",
      "disks.0.source.path",
      "disks.5.source.userDataPath",
      "disks.5.source.networkDataPath",
    ]) {
      const text = changed(path, undefined);
      expect(parseMachineConfig(text)).toEqual(JSON.parse(text));
    }
  });

  it("takes the first and the last of each range", () => {
    for (const [path, value] of [
      ["cpu.count", 1],
      ["cpu.count", 64],
      ["memory.sizeBytes", 16 * MIB],
      ["disks.0.queues", 64],
      ["disks.0.limits", { requestsPerSecond: 100, bytesPerSecond: 1_000_000 }],
      ["vsock.guestCid", 2 ** 32 - 2],
      ["console.historyBytes", 0],
      ["powerOffTimeoutMs", 0],
      ["control.telemetry.port", 65535],
      ["kvm", { devicePath: "/dev/kvm" }],
      ["disks", []],
      ["boot.commandLine", ""],
    ] as const)
      expect(() => parseMachineConfig(changed(path, value))).not.toThrow();
  });
});

describe("a machine.json without a kernel", () => {
  const byFirmware = { ...full, boot: { firmwarePath: "/usr/share/typevisor/CLOUDHV_EFI.fd" } };

  it("names a firmware", () => {
    expect(parseMachineConfig(JSON.stringify(byFirmware))).toEqual(byFirmware);
  });

  it("needs the memory that firmware needs", () => {
    const withMemory = (mebibytes: number) => JSON.stringify({ ...byFirmware, memory: { sizeBytes: mebibytes * MIB } });
    expect(() => parseMachineConfig(withMemory(64))).not.toThrow();
    expect(refusal(withMemory(63)).message).toMatch(/firmware.* needs 64 MiB .*raise memory\.sizeBytes/);
  });

  it("does not name a kernel as well", () => {
    const both = { ...full, boot: { ...full.boot, ...byFirmware.boot } };
    expect(refusal(JSON.stringify(both)).message).toMatch(/boot.imageRoot is not a known field.* firmwarePath/);
  });
});

describe("a wrong machine.json is refused with the field and the way out", () => {
  const cases: readonly [path: string, value: unknown, field: string, says: RegExp][] = [
    ["version", 2, "version", /is 2; give 1/],
    ["version", undefined, "version", /is missing; give 1/],
    ["extra", 1, "extra", /not a known field; remove it or use one of version,/],
    ["cpu.cores", 1, "cpu.cores", /use one of count, model/],
    ["cpu", 7, "cpu", /is 7; give an object with the fields count, model/],
    ["cpu", [], "cpu", /is a list; give an object/],
    ["cpu", null, "cpu", /is null; give an object/],
    ["cpu.count", 0, "cpu.count", /is 0; give a whole number from 1 to 64/],
    ["cpu.count", 4096, "cpu.count", /is 4096; give/],
    ["cpu.count", 1.5, "cpu.count", /is 1.5; give/],
    ["cpu.count", "2", "cpu.count", /is "2"; give a whole number/],
    ["cpu.count", undefined, "cpu.count", /is missing; give a whole number/],
    ["cpu.model", "Epyc", "cpu.model", /is "Epyc"; give Host/],
    ["memory.sizeBytes", 1024, "memory.sizeBytes", /give a multiple of 1048576 from 16777216/],
    ["memory.sizeBytes", 16 * MIB + 1, "memory.sizeBytes", /multiple of 1048576/],
    ["memory.sizeBytes", 1e300, "memory.sizeBytes", /multiple of/],
    ["identity.uid", "X", "identity.uid", /lower-case UUID/],
    ["identity.name", "Web", "identity.name", /lower-case letters/],
    ["boot.imageRoot", "images", "boot.imageRoot", /give an absolute path/],
    ["boot.kernelPath", "", "boot.kernelPath", /give a path inside the image/],
    ["boot.kernelPath", "/a\0b", "boot.kernelPath", /give a path inside the image/],
    ["boot.commandLine", "a\nb", "boot.commandLine", /one line of printable ASCII/],
    ["boot.commandLine", "x".repeat(2048), "boot.commandLine", /2048 bytes long; .* at most 2047 bytes/],
    ["disks", {}, "disks", /is an object; give a list/],
    ["disks.1.name", "root", "disks[1].name", /another disk has too/],
    ["disks.1.name", "UPPER", "disks[1].name", /DNS label/],
    ["disks.1.name", "d".repeat(21), "disks[1].name", /at most 20 bytes/],
    ["polling", { windowUs: 1001, sharePercent: 50 }, "polling.windowUs", /from 0 to 1000/],
    ["polling", { windowUs: 32, sharePercent: 0 }, "polling.sharePercent", /from 1 to 100/],
    ["polling", { windowUs: 32 }, "polling.sharePercent", /./],
    ["disks.0.limits", { requestsPerSecond: 0 }, "disks[0].limits.requestsPerSecond", /from 1 to/],
    ["disks.0.limits", { bytesPerSecond: 512 }, "disks[0].limits.bytesPerSecond", /from 4096 to/],
    ["disks.0.limits", { iops: 5 }, "disks[0].limits.iops", /is not a known field/],
    ["disks.0.queues", 65, "disks[0].queues", /from 1 to 64/],
    ["disks.0.readOnly", 0, "disks[0].readOnly", /true or false/],
    ["disks.0.source.overlayLimitBytes", 1000, "disks[0].source.overlayLimitBytes", /1048576/],
    ["disks.0.source.kind", "qcow2", "disks[0].source.kind", /one of image, raw, directory, empty,/],
    ["disks.1.source.overlayPath", "/x", "disks[1].source.overlayPath", /use one of kind, path/],
    ["disks.2.source.path", "claim", "disks[2].source.path", /an absolute path/],
    ["disks.2.source.sizeBytes", undefined, "disks[2].source.sizeBytes", /is missing; give a multiple of 512/],
    ["disks.2.source.sizeBytes", 0, "disks[2].source.sizeBytes", /is 0; give a multiple of 512 from 512/],
    ["disks.2.source.sizeBytes", 1000, "disks[2].source.sizeBytes", /multiple of 512/],
    ["disks.3.source.sizeBytes", 2 ** 50 + 512, "disks[3].source.sizeBytes", /to 1125899906842624/],
    ["disks.1.source.copied", true, "disks[1].readOnly", /source\.copied too, which takes a disk that can be written/],
    ["disks.1.source.sizeBytes", 512, "disks[1].source.sizeBytes", /is for a disk that is copied/],
    ["disks.2.source.copied", 1, "disks[2].source.copied", /true or false/],
    ["disks.3.source.copied", true, "disks[3].source.copied", /not a known field/],
    ["disks.3.readOnly", true, "disks[3].readOnly", /kind empty takes false only/],
    ["disks.4.readOnly", false, "disks[4].readOnly", /kind files takes true only/],
    ["disks.4.source.volumeLabel", "", "disks[4].source.volumeLabel", /a label of letters/],
    ["disks.4.source.volumeLabel", "a b", "disks[4].source.volumeLabel", /a label of letters/],
    ["disks.4.source.volumeLabel", "x".repeat(33), "disks[4].source.volumeLabel", /at most 32 bytes/],
    ["disks.4.source.directory", "../conf", "disks[4].source.directory", /an absolute path/],
    ["disks.5.readOnly", false, "disks[5].readOnly", /kind cloudInit takes true only/],
    ["disks.5.source.instanceId", "a: b\n", "disks[5].source.instanceId", /give letters, digits/],
    ["disks.5.source.localHostname", "Web", "disks[5].source.localHostname", /lower-case letters/],
    ["disks.5.source.userData", "#cloud-config", "disks[5].source.userData", /not a known field/],
    ["console.historyBytes", -1, "console.historyBytes", /from 0 to/],
    ["control.socketPath", `/${"s".repeat(106)}`, "control.socketPath", /at most 106 bytes/],
    ["control.https.address", "localhost", "control.https.address", /an IP address/],
    ["control.https.port", 0, "control.https.port", /from 1 to 65535/],
    ["control.https.allowedClients", [], "control.https.allowedClients", /at least one client/],
    ["control.https.allowedClients", [1], "control.https.allowedClients[0]", /common name/],
    ["kvm", {}, "kvm", /exactly one of devicePath/],
    ["kvm", { devicePath: "/dev/kvm", agentSocketPath: "/a" }, "kvm", /exactly one of/],
    ["powerOffTimeoutMs", 2 ** 31, "powerOffTimeoutMs", /from 0 to 2147483647/],
    ["log.level", "loud", "log.level", /one of debug, info, warn, error/],
  ];
  it.each(cases)("%s = %j", (path, value, field, says) => {
    const error = refusal(changed(path, value));
    expect(error.field).toBe(field);
    expect(error.message).toMatch(says);
  });

  it("names the version, not the unknown fields, of a file of another version", () => {
    expect(refusal(JSON.stringify({ version: 9, gpus: [] })).field).toBe("version");
  });

  it.each(["", "{", "null", "[]", "1", '"x"', '{"__proto__": 1}'])("the text %j", (text) => {
    expect(refusal(text).message).toMatch(/^machine\.json/);
  });

  it("never throws anything else, and says it in one printable line", () => {
    const paths = [
      "cpu",
      "cpu.count",
      "disks",
      "disks.0",
      "disks.0.source",
      "boot.kernelPath",
      "control",
      "kvm",
      "log",
    ];
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.jsonValue(), (path, value) => {
        try {
          parseMachineConfig(changed(path, value));
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigInvalid);
          expect((error as Error).message).toMatch(/^[\x20-\x7e]+$/);
          expect((error as Error).message.length).toBeLessThan(1000);
        }
      }),
    );
  });
});

describe("the file itself", () => {
  let directory = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "machine-config-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it("is read from its path", () => {
    const path = join(directory, "machine.json");
    writeFileSync(path, JSON.stringify(full));
    expect(readMachineConfig(path)).toEqual(full);
  });

  it("is reported when it is missing or a directory", () => {
    expect(() => readMachineConfig(join(directory, "none"))).toThrow(/cannot be read \(ENOENT/);
    expect(() => readMachineConfig(directory)).toThrow(/cannot be read \(EISDIR/);
  });
});
