import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { virtualMachineCrd } from "./generate/virtualmachine-crd.ts";
import { virtualMachineImageCrd } from "./generate/virtualmachineimage-crd.ts";
import { virtualMachineMigrationCrd } from "./generate/virtualmachinemigration-crd.ts";
import { notYet } from "./not-yet.ts";

const collection = "/apis/typevisor.io/v1alpha1/namespaces/default/virtualmachines";
const image = { reference: "registry.example/debian-vm:13" };
const kernel = { image, path: "/boot/vmlinuz" };
const smallest = { memory: { size: "64Mi" }, boot: { kernel } };

interface Manifest {
  readonly metadata?: Record<string, unknown>;
  readonly spec: unknown;
}

/** The smallest spec that is accepted, with changes. */
const spec = (changes: Record<string, unknown>): Manifest => ({ spec: { ...smallest, ...changes } });
const booting = (changes: Record<string, unknown>) => spec({ boot: { kernel: { ...kernel, ...changes } } });
const disks = (...list: unknown[]) => spec({ disks: list });
const onClaim = (name: string, claimName: string) => ({ name, persistentVolumeClaim: { claimName } });
const template = (name: string, storage: string, claim: object = {}) => ({
  metadata: { name },
  spec: { resources: { requests: { storage } }, ...claim },
});
const fromTemplate = (name: string, templateName: string) => ({ name, volumeClaimTemplate: { name: templateName } });
const interfaces = (...list: unknown[]) => spec({ interfaces: list });
const onPort = (port: number | string) => ({ tcpSocket: { port } });
const masqueraded = (...ports: unknown[]) => [{ name: "default", masquerade: { ports } }];
const multus = (name: string, networkName: string) => ({ name, multus: { networkName } });
const pod = (podSpec: Record<string, unknown>) => spec({ template: { spec: podSpec } });

const placement = {
  nodeSelector: { disk: "ssd" },
  tolerations: [{ key: "vm", operator: "Exists", effect: "NoSchedule" }],
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: "zone", operator: "In", values: ["a"] }] }],
      },
    },
    podAntiAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        {
          weight: 100,
          podAffinityTerm: { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "web" } } },
        },
      ],
    },
  },
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: "zone",
      whenUnsatisfiable: "ScheduleAnyway",
      labelSelector: { matchLabels: { app: "web" } },
    },
  ],
  imagePullSecrets: [{ name: "registry" }],
  hostname: "web",
  subdomain: "vms",
  priorityClassName: "high",
  schedulerName: "default-scheduler",
};

const withTemplate = (storage: string, claim: object = {}) => ({
  ...smallest,
  disks: [fromTemplate("root", "data")],
  volumeClaimTemplates: [template("data", storage, claim)],
});

let server: ApiServer;

beforeAll(async () => {
  server = await startApiServer();
  const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const created = await server.request("POST", definitions, { body: virtualMachineCrd() });
  expect(created).toMatchObject({ status: 201, warnings: [] });
  // Examples have some of these.
  for (const body of [virtualMachineImageCrd(), virtualMachineMigrationCrd()]) {
    expect(await server.request("POST", definitions, { body })).toMatchObject({ status: 201 });
  }
  for (const plural of ["virtualmachines", "virtualmachineimages", "virtualmachinemigrations"]) {
    const path = collection.replace("virtualmachines", plural);
    const served = () => server.request("GET", path).then(({ status }) => status === 200);
    await waitFor(served, { what: `the API server to serve ${path}`, timeoutMs: 30_000 });
  }
}, 30 * 60_000);

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

function create({ metadata = { name: "web" }, spec }: Manifest, query = "dryRun=All&fieldValidation=Strict") {
  const body = { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", metadata, spec };
  return server.request("POST", `${collection}?${query}`, { body });
}

interface StatusObject {
  readonly message: string;
  readonly details?: { readonly causes?: readonly { readonly field: string; readonly message: string }[] };
}

/** What the API server says against a manifest: `field: message`, without its word on rules that it skipped. */
async function refusals(manifest: Manifest): Promise<string[]> {
  const { status, body } = await create(manifest);
  if (status < 400) return [];
  const { message, details } = body as StatusObject;
  if (details?.causes === undefined) return [message];
  return details.causes
    .map((cause) => `${cause.field}: ${cause.message.replace(/^Invalid value: (?:".*?": (?=\S))?/s, "")}`)
    .filter((text) => !text.includes("some validation rules were not checked"));
}

describe("a VirtualMachine is accepted with", () => {
  it.each<[string, Manifest]>([
    ["no more than memory and a kernel", { spec: smallest }],
    ["a name of 63 characters", { metadata: { name: "a".repeat(63) }, spec: smallest }],
    ["a name that the API server makes", { metadata: { generateName: "web-" }, spec: smallest }],
    ["64 processors", spec({ cpu: { cores: 64, model: "Host" } })],
    ["16 MiB of memory", spec({ memory: { size: "16Mi" } })],
    ["memory in bytes", spec({ memory: { size: "67108864" } })],
    ["16 TiB of memory", spec({ memory: { size: "16Ti" } })],
    ["two dots in a file name", booting({ path: "/boot/..vmlinuz..", initrd: "/initrd" })],
    ["a kernel command line of 2047 characters", booting({ cmdline: "~".repeat(2047) })],
    ["16 disks", disks(...Array.from({ length: 16 }, (_, index) => ({ name: `disk-${index}`, image })))],
    ["a disk name of 20 characters", disks({ name: "a".repeat(20), readOnly: true, image })],
    ["a disk file of its own", disks({ name: "root", image: { ...image, pullPolicy: "Never", path: "/disk/a.img" } })],
    [
      "a disk of each kind",
      disks(
        { name: "root", image },
        onClaim("data", "data"),
        { ...onClaim("shared", "shared"), readOnly: true },
        { name: "scratch", emptyDisk: { size: "10Gi" }, limits: { requestsPerSecond: 500, bytesPerSecond: "50Mi" } },
        { name: "seed", cloudInit: { userData: "#cloud-config", networkDataSecretRef: { name: "net" } } },
        { name: "conf", configMap: { name: "conf" } },
        { name: "keys", secret: { secretName: "keys" } },
      ),
    ],
    [
      "16 disks on claims",
      disks(...Array.from({ length: 16 }, (_, index) => onClaim(`disk-${index}`, `claim-${index}`))),
    ],
    ["an empty list of interfaces", spec({ interfaces: [] })],
    [
      "an interface of each kind",
      interfaces(
        {
          name: "default",
          masquerade: { ports: [{ name: "http", port: 80 }, { protocol: "UDP", port: 53 }, { port: 53 }] },
          limits: { packetsPerSecond: 1000, bitsPerSecond: 100_000_000 },
        },
        { ...multus("storage", "vlan-5"), macAddress: "02:00:5E:10:00:01", state: "Down" },
        multus("backup", "other/vlan.6"),
      ),
    ],
    ["a vsock", spec({ vsock: {} })],
    ["the pod's own address", interfaces({ name: "default", podIP: {} })],
    ["8 interfaces", interfaces(...Array.from({ length: 8 }, (_, index) => multus(`net-${index}`, "a")))],
    ["64 ports", spec({ interfaces: masqueraded(...Array.from({ length: 64 }, (_, index) => ({ port: index + 1 }))) })],
    [
      "probes of the guest",
      spec({
        readinessProbe: { httpGet: { path: "/healthz", port: 80 }, periodSeconds: 5 },
        livenessProbe: { tcpSocket: { port: 22 }, initialDelaySeconds: 60 },
      }),
    ],
    [
      "probes of ports by number and by name",
      spec({
        interfaces: masqueraded({ name: "http", port: 8080 }),
        readinessProbe: onPort("http"),
        livenessProbe: onPort(8080),
      }),
    ],
    [
      "a probe of a guest that has the pod's address",
      spec({ interfaces: [{ name: "a", podIP: {} }], readinessProbe: onPort(22) }),
    ],
    [
      "a run strategy, a pause and no grace",
      spec({ runStrategy: "RerunOnFailure", paused: true, terminationGracePeriodSeconds: 0 }),
    ],
    [
      "resources as Pods have them",
      pod({ resources: { limits: { cpu: 2, memory: "128Mi" }, requests: { cpu: "500m" } } }),
    ],
    ["a place in the cluster", pod(placement)],
    ["a disk to boot from and no kernel", { spec: { memory: { size: "64Mi" }, disks: [{ name: "root", image }] } }],
  ])("%s", async (_what, manifest) => {
    expect(await refusals(manifest)).toEqual([]);
  });
});

const anyDiskSource =
  "a disk needs exactly one of image, persistentVolumeClaim, volumeClaimTemplate, emptyDisk, cloudInit, configMap, secret";
const anyBinding = "an interface needs exactly one of masquerade, podIP, multus";
const unlistedPort = (probe: string) =>
  `spec.${probe}: the port of spec.${probe} must be a TCP port in spec.interfaces[].masquerade.ports, by name or, where the list is given, by number: add it there`;
const dnsLabel = "must be lower-case letters, digits and '-', beginning and ending with a letter or digit";
const strict = 'VirtualMachine in version "v1alpha1" cannot be handled as a VirtualMachine: strict decoding error:';
const objectName =
  "<nil>: metadata.name must be at most 63 lower-case letters, digits and '-': it becomes the pod's host name";
const printable = "cmdline must be one line of printable ASCII: remove line breaks, tabs and other characters";

describe("a VirtualMachine is refused for", () => {
  it.each<[string, Manifest, string]>([
    ["an unknown field", spec({ cpus: 2 }), `${strict} unknown field "spec.cpus"`],
    ["an unknown field deep inside", spec({ cpu: { sockets: 2 } }), `${strict} unknown field "spec.cpu.sockets"`],
    ["a container of its own", pod({ containers: [] }), `${strict} unknown field "spec.template.spec.containers"`],
    ["a dot in its name", { metadata: { name: "a.b" }, spec: smallest }, objectName],
    ["a name of 64 characters", { metadata: { name: "a".repeat(64) }, spec: smallest }, objectName],
    [
      "no processor",
      spec({ cpu: { cores: 0 } }),
      "spec.cpu.cores: 0: spec.cpu.cores in body should be greater than or equal to 1",
    ],
    [
      "4096 processors",
      spec({ cpu: { cores: 4096 } }),
      "spec.cpu.cores: 4096: spec.cpu.cores in body should be less than or equal to 64",
    ],
    [
      "a processor model",
      spec({ cpu: { model: "EPYC" } }),
      'spec.cpu.model: Unsupported value: "EPYC": supported values: "Host"',
    ],
    ["no memory", { spec: { boot: smallest.boot } }, "spec.memory: Required value"],
    [
      "1 KiB of memory",
      spec({ memory: { size: "1Ki" } }),
      "spec.memory.size: size must be at least 16Mi; was the unit (Mi, Gi) left out?",
    ],
    [
      "memory without its unit",
      spec({ memory: { size: "512" } }),
      "spec.memory.size: size must be at least 16Mi; was the unit (Mi, Gi) left out?",
    ],
    [
      "memory below zero",
      spec({ memory: { size: "-64Mi" } }),
      "spec.memory.size: size must be at least 16Mi; was the unit (Mi, Gi) left out?",
    ],
    [
      "a number as memory",
      spec({ memory: { size: 64 } }),
      'spec.memory.size: spec.memory.size in body must be of type string: "integer"',
    ],
    [
      "memory in words",
      spec({ memory: { size: "lots" } }),
      "spec.memory.size: size must be a quantity of bytes, such as 512Mi or 2Gi",
    ],
    ["an exbibyte of memory", spec({ memory: { size: "1Ei" } }), "spec.memory.size: size must be at most 16Ti"],
    [
      "memory in decimal megabytes",
      spec({ memory: { size: "17M" } }),
      "spec.memory.size: size must be a multiple of 1Mi; write it with Mi or Gi, not M or G",
    ],
    [
      "half a mebibyte",
      spec({ memory: { size: "64.5Mi" } }),
      "spec.memory.size: size must be a multiple of 1Mi; write it with Mi or Gi, not M or G",
    ],
    [
      "neither a kernel nor a disk",
      { spec: { memory: smallest.memory } },
      "spec: spec.boot.kernel is required where there is no disk to boot from: name a kernel, or add a disk",
    ],
    [
      "too little memory for firmware",
      { spec: { memory: { size: "63Mi" }, disks: [{ name: "root", image }] } },
      "spec.memory.size: spec.memory.size must be at least 64Mi without spec.boot.kernel: firmware needs it",
    ],
    [
      "a relative kernel path",
      booting({ path: "boot/vmlinuz" }),
      "spec.boot.kernel.path: path must be the absolute path of a file in the image, such as /boot/vmlinuz",
    ],
    [
      "a directory as kernel",
      booting({ path: "/boot/" }),
      "spec.boot.kernel.path: path must be the absolute path of a file in the image, such as /boot/vmlinuz",
    ],
    [
      "a kernel path that climbs",
      booting({ path: "/boot/../../etc/shadow" }),
      "spec.boot.kernel.path: path must not contain '..': it is resolved inside the image and cannot leave it",
    ],
    [
      "an initrd path that climbs",
      booting({ initrd: "/boot/.." }),
      "spec.boot.kernel.initrd: initrd must not contain '..': it is resolved inside the image and cannot leave it",
    ],
    ["two command lines", booting({ cmdline: "quiet\ninit=/bin/sh" }), `spec.boot.kernel.cmdline: ${printable}`],
    ["a line break at the end", booting({ cmdline: "quiet\n" }), `spec.boot.kernel.cmdline: ${printable}`],
    ["an umlaut on the command line", booting({ cmdline: "größe" }), `spec.boot.kernel.cmdline: ${printable}`],
    [
      "a long command line",
      booting({ cmdline: "~".repeat(2048) }),
      "spec.boot.kernel.cmdline: Too long: may not be more than 2047 bytes",
    ],
    [
      "white space in an image reference",
      booting({ image: { reference: "debian :13" } }),
      "spec.boot.kernel.image.reference: reference must be an image reference without white space, such as registry.example/debian:13",
    ],
    [
      "an unknown pull policy",
      booting({ image: { ...image, pullPolicy: "Sometimes" } }),
      'spec.boot.kernel.image.pullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ],
    ["an upper-case disk name", disks({ name: "Root_1", image }), `spec.disks[0].name: name ${dnsLabel}`],
    [
      "a disk name of 21 characters",
      disks({ name: "a".repeat(21), image }),
      "spec.disks[0].name: Too long: may not be more than 20 bytes",
    ],
    [
      "two disks of one name",
      disks({ name: "a", image }, { name: "a", image }),
      'spec.disks[1]: Duplicate value: {"name":"a"}',
    ],
    ["a disk from nowhere", disks({ name: "root" }), `spec.disks[0]: ${anyDiskSource}`],
    [
      "one claim twice",
      disks(onClaim("a", "data"), onClaim("b", "other"), onClaim("c", "data")),
      "spec.disks: disks must not name one PersistentVolumeClaim twice: the guest would write over its own data",
    ],
    [
      "two templates of one name",
      spec({ volumeClaimTemplates: [template("data", "1Gi"), template("data", "2Gi")] }),
      "spec.volumeClaimTemplates: volumeClaimTemplates must have different names",
    ],
    [
      "a template that there is not",
      spec({ disks: [fromTemplate("root", "other")], volumeClaimTemplates: [template("data", "1Gi")] }),
      "spec.disks: spec.disks names a template that spec.volumeClaimTemplates does not have: correct volumeClaimTemplate.name",
    ],
    [
      "one template twice",
      spec({
        disks: [fromTemplate("a", "data"), fromTemplate("b", "data")],
        volumeClaimTemplates: [template("data", "1Gi")],
      }),
      "spec.disks: spec.disks must not use one template twice: the guest would write over its own data",
    ],
    [
      "an empty disk that stays empty",
      disks({ name: "a", readOnly: true, emptyDisk: { size: "1Gi" } }),
      "spec.disks[0].readOnly: readOnly makes no sense with emptyDisk, which would stay empty for ever: remove readOnly",
    ],
    [
      "an empty disk of half a sector",
      disks({ name: "a", emptyDisk: { size: "1048577" } }),
      "spec.disks[0].emptyDisk.size: size must be a multiple of 512; write it with Mi or Gi, not M or G",
    ],
    [
      "limits that limit nothing",
      disks({ name: "a", emptyDisk: { size: "1Gi" }, limits: {} }),
      "spec.disks[0].limits: limits needs requestsPerSecond, bytesPerSecond or both: without a limit, remove it",
    ],
    [
      "a limit below one request",
      disks({ name: "a", emptyDisk: { size: "1Gi" }, limits: { bytesPerSecond: "100" } }),
      "spec.disks[0].limits.bytesPerSecond: bytesPerSecond must be at least 4Ki; was the unit (Mi, Gi) left out?",
    ],
    [
      "user data in two ways",
      disks({ name: "a", cloudInit: { userData: "#cloud-config", userDataSecretRef: { name: "user" } } }),
      "spec.disks[0].cloudInit.userDataSecretRef: cloudInit takes userData or userDataSecretRef, not both: remove one",
    ],
    [
      "network data in two ways",
      disks({ name: "a", cloudInit: { networkData: "version: 2", networkDataSecretRef: { name: "net" } } }),
      "spec.disks[0].cloudInit.networkDataSecretRef: cloudInit takes networkData or networkDataSecretRef, not both: remove one",
    ],
    [
      "17 disks",
      disks(...Array.from({ length: 17 }, (_, index) => ({ name: `disk-${index}`, image }))),
      "spec.disks: Too many: 17: must have at most 16 items",
    ],
    [
      "an unknown run strategy",
      spec({ runStrategy: "Manual" }),
      'spec.runStrategy: Unsupported value: "Manual": supported values: "Always", "RerunOnFailure", "Once", "Halted"',
    ],
    [
      "a grace period below zero",
      spec({ terminationGracePeriodSeconds: -1 }),
      "spec.terminationGracePeriodSeconds: -1: spec.terminationGracePeriodSeconds in body should be greater than or equal to 0",
    ],
    [
      "a label of ours",
      spec({ template: { metadata: { labels: { "typevisor.io/vm": "other" } } } }),
      "spec.template.metadata.labels: labels under typevisor.io/ are set by Typevisor; choose another prefix",
    ],
    [
      "an annotation of ours",
      spec({ template: { metadata: { annotations: { "typevisor.io/vm": "other" } } } }),
      "spec.template.metadata.annotations: annotations under typevisor.io/ are set by Typevisor; choose another prefix",
    ],
    [
      "a memory limit below the guest's memory",
      pod({ resources: { limits: { memory: "63Mi" } } }),
      "spec.template.spec.resources.limits.memory: spec.template.spec.resources.limits.memory must be more than spec.memory.size: leave room for the overhead",
    ],
    [
      "a memory request below the guest's memory",
      pod({ resources: { requests: { memory: 1 } } }),
      "spec.template.spec.resources.requests.memory: spec.template.spec.resources.requests.memory must be at least spec.memory.size, plus the overhead",
    ],
    [
      "processors in words",
      pod({ resources: { limits: { cpu: "two" } } }),
      "spec.template.spec.resources.limits.cpu: cpu must be a quantity, such as 500m or 2 for CPU, 512Mi or 2Gi for memory and storage",
    ],
    ["a host name with a dot", pod({ hostname: "a.b" }), `spec.template.spec.hostname: hostname ${dnsLabel}`],
    ["an interface to nowhere", interfaces({ name: "a" }), `spec.interfaces[0]: ${anyBinding}`],
    [
      "an interface to two networks",
      interfaces({ name: "a", masquerade: {}, podIP: {} }),
      `spec.interfaces[0]: ${anyBinding}`,
    ],
    [
      "two interfaces of one name",
      interfaces(multus("a", "x"), multus("a", "y")),
      'spec.interfaces[1]: Duplicate value: {"name":"a"}',
    ],
    [
      "the pod network twice",
      interfaces({ name: "a", masquerade: {} }, { name: "b", podIP: {} }),
      "spec.interfaces: interfaces must have at most one of masquerade and podIP: the pod has one network of its own, use multus for others",
    ],
    [
      "a MAC address of a group",
      interfaces({ ...multus("a", "x"), macAddress: "01:00:5e:00:00:01" }),
      "spec.interfaces[0].macAddress: macAddress must be that of one interface (unicast): make its second digit even, such as 02:...",
    ],
    [
      "a MAC address with dashes",
      interfaces({ ...multus("a", "x"), macAddress: "02-00-5e-00-00-01" }),
      "spec.interfaces[0].macAddress: macAddress must be six pairs of hexadecimal digits with ':' between them, such as 02:00:5e:10:00:01",
    ],
    [
      "the gateway's MAC address",
      interfaces({ name: "a", masquerade: {}, macAddress: "02:00:00:00:00:01" }),
      "spec.interfaces[0].macAddress: macAddress must be another: 00:00:00:00:00:00 is none, and 02:00:00:00:00:01 is the gateway's",
    ],
    [
      "one MAC address twice",
      interfaces(
        { ...multus("a", "x"), macAddress: "02:00:5e:00:00:aa" },
        { ...multus("b", "y"), macAddress: "02:00:5e:00:00:aa" },
      ),
      "spec.interfaces: interfaces must not share a macAddress: change one, or remove it to have one made",
    ],
    [
      "a MAC address where the pod's is taken",
      interfaces({ name: "a", podIP: {}, macAddress: "02:00:5e:00:00:aa" }),
      "spec.interfaces[0].macAddress: macAddress makes no sense with podIP, whose guest has the pod's own: remove it",
    ],
    [
      "a time server by name",
      interfaces({ name: "a", masquerade: {}, ntpServers: ["2001:db8::123", "pool.ntp.org"] }),
      "spec.interfaces[0].ntpServers[1]: ntpServers are IP addresses, without a port: DHCP has no names of them",
    ],
    [
      "time servers where another DHCP server answers",
      interfaces({ ...multus("a", "x"), ntpServers: ["192.0.2.123"] }),
      "spec.interfaces[0].ntpServers: ntpServers makes no sense with multus, whose network has its own DHCP: remove it",
    ],
    [
      "one port twice",
      spec({ interfaces: masqueraded({ port: 80 }, { port: 80 }) }),
      'spec.interfaces[0].masquerade.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}',
    ],
    [
      "two ports of one name",
      spec({ interfaces: masqueraded({ name: "a", port: 80 }, { name: "a", port: 81 }) }),
      "spec.interfaces[0].masquerade.ports: names of ports must be unique: rename one",
    ],
    [
      "a port by the name of the launcher's",
      spec({ interfaces: masqueraded({ name: "telemetry", port: 80 }) }),
      "spec.interfaces[0].masquerade.ports[0].name: name must be another than control, telemetry, migration, migration-data, which are ports of the launcher itself",
    ],
    [
      "an interface whose limits limit nothing",
      interfaces({ name: "a", masquerade: {}, limits: {} }),
      "spec.interfaces[0].limits: limits needs packetsPerSecond, bitsPerSecond or both: without a limit, remove it",
    ],
    [
      "two words about the same networks",
      spec({
        interfaces: [multus("a", "x")],
        template: { metadata: { annotations: { "k8s.v1.cni.cncf.io/networks": "y" } } },
      }),
      "spec.template.metadata.annotations: the annotation k8s.v1.cni.cncf.io/networks is written from spec.interfaces: name those networks there, as multus interfaces",
    ],
    [
      "a probe that asks in two ways",
      spec({ readinessProbe: { ...onPort(80), httpGet: { port: 80 } } }),
      "spec.readinessProbe: readinessProbe needs exactly one of httpGet, tcpSocket, exec",
    ],
    [
      "a probe of a port that does not reach the guest",
      spec({ interfaces: masqueraded({ port: 80 }, { protocol: "UDP", port: 22 }), readinessProbe: onPort(22) }),
      unlistedPort("readinessProbe"),
    ],
    [
      "a probe of a port whose name nobody knows",
      spec({ interfaces: [{ name: "a", masquerade: {} }], livenessProbe: onPort("http") }),
      unlistedPort("livenessProbe"),
    ],
    [
      "a probe without a network",
      spec({ interfaces: [multus("a", "x")], readinessProbe: onPort(80) }),
      "spec.readinessProbe: spec.readinessProbe needs an interface on the pod network: add one with masquerade or podIP, or remove the probe",
    ],
    [
      "a port beyond all ports",
      spec({ readinessProbe: onPort(65536) }),
      "spec.readinessProbe.tcpSocket.port: 65536: port must be a number from 1 to 65535, or the name of a port of the masquerade interface",
    ],
    [
      "a liveness that must be proven twice",
      spec({ livenessProbe: { ...onPort(22), successThreshold: 2 } }),
      "spec.livenessProbe.successThreshold: successThreshold must be 1 for a livenessProbe, as in Pods: remove it",
    ],
    [
      "a pause that would be taken for death",
      spec({ livenessProbe: onPort(22), paused: true }),
      "spec.paused: spec.paused and spec.livenessProbe exclude each other: a guest that is paused answers no probe, and would be given up; remove the probe first",
    ],
  ])("%s", async (_what, manifest, message) => {
    expect(await refusals(manifest)).toEqual([message]);
  });
});

describe("what this version does not do is refused, not ignored:", () => {
  const offending: Record<string, Manifest> = {
    "spec.readinessProbe.exec": spec({ readinessProbe: { exec: { command: ["true"] } } }),
    "spec.livenessProbe.exec": spec({ livenessProbe: { exec: {} } }),
  };

  it("these fields, and no others", () => {
    const refused = notYet.map((entry) => `${entry.at}${entry.fieldPath ?? ""}`);
    expect(refused.sort()).toEqual(Object.keys(offending).sort());
  });

  it.each(notYet.map((entry) => ({ field: `${entry.at}${entry.fieldPath ?? ""}`, message: entry.message })))(
    "$field",
    async ({ field, message }) => {
      expect(await refusals(offending[field] ?? { spec: smallest })).toEqual([
        `${field.replace("[]", "[0]")}: ${message}`,
      ]);
    },
  );
});

describe("the API server", () => {
  it("takes the examples as they are", async () => {
    const examples = join(import.meta.dirname, "../../examples");
    const output = await server.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", examples]);
    expect(output.match(/virtualmachine\.\S+ created/g)).toHaveLength(
      readdirSync(examples).filter((file) => file.endsWith(".yaml")).length,
    );
  });

  it("fills in defaults and drops nothing that was given", async () => {
    const { body } = await create(disks({ name: "root", image }));
    expect(body).toMatchObject({
      spec: {
        runStrategy: "Always",
        paused: false,
        cpu: { cores: 1, model: "Host" },
        memory: { size: "64Mi" },
        boot: { kernel: { ...kernel, cmdline: "" } },
        disks: [{ name: "root", readOnly: false, image }],
        evictionStrategy: "None",
        terminationGracePeriodSeconds: 120,
      },
    });
  });

  it("says of each kind that nobody has seen an object yet, which kstatus would take for one that is up to date", async () => {
    const unseen = {
      virtualmachines: { kind: "VirtualMachine", spec: smallest },
      virtualmachineimages: { kind: "VirtualMachineImage", spec: { source: { image } } },
      virtualmachinemigrations: { kind: "VirtualMachineMigration", spec: { virtualMachineName: "unseen" } },
    };
    for (const [plural, manifest] of Object.entries(unseen)) {
      const path = collection.replace("virtualmachines", plural);
      const body = { apiVersion: "typevisor.io/v1alpha1", metadata: { name: "unseen" }, ...manifest };
      expect(await server.request("POST", path, { body })).toMatchObject({ status: 201 });
      const { body: found } = await server.request("GET", `${path}/unseen`);
      expect(found).toMatchObject({ metadata: { generation: 1 }, status: { observedGeneration: -1 } });
      await server.request("DELETE", `${path}/unseen`);
    }
  });

  it("tells even a careless client of an unknown field", async () => {
    const { status, warnings } = await create(spec({ cpus: 2 }), "dryRun=All");
    expect({ status, warnings }).toEqual({ status: 201, warnings: ['unknown field "spec.cpus"'] });
  });

  it("lets a template's claim grow, and nothing else of it change", async () => {
    await create({ metadata: { name: "grows" }, spec: withTemplate("2Gi") }, "");
    const object = `${collection}/grows`;
    const change = async (changed: unknown) => {
      const options = { contentType: "application/merge-patch+json", body: { spec: changed } };
      const { status, body } = await server.request("PATCH", `${object}?dryRun=All`, options);
      return status === 200 ? "" : (body as StatusObject).message;
    };
    expect(await change(withTemplate("3Gi"))).toBe("");
    expect(await change({ volumeClaimTemplates: null, disks: [] })).toBe("");
    expect(await change(withTemplate("1Gi"))).toContain("a claim never shrinks");
    for (const claim of [{ storageClassName: "fast" }, { volumeMode: "Block" }, { accessModes: ["ReadWriteMany"] }])
      expect(await change(withTemplate("2Gi", claim))).toContain("only requests.storage can change");
  });

  it("keeps spec and status apart", async () => {
    await create({ metadata: { name: "apart" }, spec: smallest }, "");
    const object = `${collection}/apart`;
    const contentType = "application/merge-patch+json";
    const patch = { spec: { paused: true }, status: { phase: "Running", node: "node1" } };
    const viaSpec = await server.request("PATCH", object, { contentType, body: patch });
    expect(viaSpec.body).toMatchObject({ metadata: { generation: 2 }, spec: { paused: true } });
    expect(viaSpec.body).toMatchObject({ status: { observedGeneration: -1 } });
    expect(viaSpec.body).not.toHaveProperty("status.phase");
    const viaStatus = await server.request("PATCH", `${object}/status`, {
      contentType,
      body: { spec: { paused: false }, status: patch.status },
    });
    expect(viaStatus.body).toMatchObject({ metadata: { generation: 2 }, spec: { paused: true }, status: patch.status });
  });

  it("lists the columns that people ask for, by the short name and by the category", async () => {
    await create({ metadata: { name: "listed" }, spec: smallest }, "");
    const narrow = await server.kubectl(["get", "vm", "listed"]);
    expect(narrow.split("\n")[0]?.trim().split(/\s+/)).toEqual(["NAME", "PHASE", "READY", "NODE", "IP", "AGE"]);
    const wide = await server.kubectl(["get", "typevisor", "-o", "wide"]);
    expect(wide.split("\n")[0]?.trim().split(/\s+/).slice(6)).toEqual([
      "CPU",
      "MEMORY",
      "RUN",
      "MIGRATABLE",
      "RESTARTS",
      "REASON",
    ]);
    expect(wide).toMatch(/^virtualmachine\.typevisor\.io\/listed\s.*\s1\s+64Mi\s+Always/m);
  });

  it("explains disks", async () => {
    const text = await server.kubectl(["explain", "vm.spec.disks"]);
    expect(text).toContain("FIELD: disks <[]Object>");
    expect(text).toMatch(/Disks in the order of the guest's PCI bus/);
    expect(text).toMatch(/name\s+<string> -required-\n\s+Name of the disk/);
    expect(text).toMatch(/readOnly\s+<boolean>\n\s+The guest cannot write/);
  });
});
