/**
 * What a launcher costs in memory beside guest RAM, in a cgroup of its own as in a pod, and what each part of it adds:
 * the process's private and resident memory, and what its cgroup is charged. Needs root (it makes cgroups) and /dev/kvm.
 * Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/launcher-memory.ts [RUNS [PATTERN]]   a table on standard error, JSON on standard output;
 *                                                         only the rows whose names match
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import {
  machineCommonName,
  machineServerName,
  OPERATOR_COMMON_NAME,
} from "../../operator/src/certificates/identities.ts";
import { createAuthority, issueCertificate, type KeyPair } from "../../operator/src/certificates/x509.ts";
import { LauncherClient } from "../../operator/src/launcher-client/launcher-client.ts";
import { run, waitFor } from "../lib/step.ts";
import {
  type LaunchOptions,
  launcherBundle,
  launcherEnvironment,
  MIB,
  processMemory,
  repository,
  SETTLED_MS,
  socketIn,
  testGuestConfig,
  withLauncher,
} from "./bench-launcher.ts";
import { MemoryCgroup } from "./memory-cgroup.ts";
import { mebibytes, medians, table } from "./statistics.ts";

const runs = Number(process.argv[2] ?? 5);
const pattern = new RegExp(process.argv[3] ?? "");
const LIFE_MS = 3_600_000;
/** The test guest leaves this much of its memory alone: itself, and what is below 1 MiB. */
const GUEST_SPARED_BYTES = 8 * MIB;
const TOUCH_DEADLINE_MS = 120_000;

/** Figures in MiB; all of the cgroup's without guest RAM. */
interface Row extends Record<string, number> {
  readonly private: number;
  readonly resident: number;
  readonly cgroup: number;
  readonly anon: number;
  readonly file: number;
  readonly kernel: number;
}

let cgroups = 0;
function newCgroup(): MemoryCgroup {
  cgroups += 1;
  return new MemoryCgroup(`typevisor-bench-${process.pid}-${cgroups}`);
}

function look(pid: number, cgroup: MemoryCgroup): Row {
  const { privateBytes, residentBytes } = processMemory(pid);
  const { currentBytes, anonBytes, fileBytes, shmemBytes, kernelBytes } = cgroup.read();
  return {
    private: mebibytes(privateBytes),
    resident: mebibytes(residentBytes),
    cgroup: mebibytes(currentBytes - shmemBytes),
    anon: mebibytes(anonBytes),
    file: mebibytes(fileBytes),
    kernel: mebibytes(kernelBytes),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}

/** Node that has done what `script` says and has nothing more to do. */
async function idleNode(script: string): Promise<Row> {
  using cgroup = newCgroup();
  const [program = "", ...wrapper] = cgroup.wrapper;
  const code = `setInterval(() => {}, 2 ** 30); ${script}; setTimeout(() => gc({ type: "major", flavor: "last-resort" }), 5000)`;
  const argv = [...wrapper, process.execPath, "-e", code, "version"];
  const env = { ...process.env, ...launcherEnvironment };
  const child = spawn(program, argv, { env, stdio: "ignore" });
  try {
    await delay(SETTLED_MS);
    return look(child.pid ?? 0, cgroup);
  } finally {
    await ended(child);
  }
}

type Settled = (directory: string, cgroup: MemoryCgroup, config: MachineConfig) => Promise<void>;

/** A launcher, `settle`d in whatever way, some time later. */
async function launcher(config: LaunchOptions["config"], settle?: Settled, files = {}): Promise<Row> {
  using cgroup = newCgroup();
  const options = { config, wrapper: cgroup.wrapper, ...files };
  return await withLauncher(options, async ({ pid, directory }) => {
    await settle?.(directory, cgroup, config(directory));
    await delay(SETTLED_MS);
    return look(pid, cgroup);
  });
}

const authority = await createAuthority("bench", Date.now(), LIFE_MS);
const issue = (commonName: string, usage: "client" | "server", dnsNames: string[] = []): Promise<KeyPair> =>
  issueCertificate(authority, { commonName, dnsNames, usages: [usage] }, Date.now(), LIFE_MS);
const operator = await issue(OPERATOR_COMMON_NAME, "client");
const { uid } = testGuestConfig("", 1).identity;
const machine = await issue(machineCommonName(uid), "server", [machineServerName(uid)]);

interface PodShape {
  readonly cpus: number;
  readonly guestMiB?: number;
  /** The guest writes to all its memory. */
  readonly touched?: boolean;
}

/** The machine as in a pod: with its API over mutual TLS, and telemetry. */
async function inPod({ cpus, guestMiB = 64, touched = false }: PodShape): Promise<LaunchOptions["config"]> {
  const [port, telemetryPort] = await freePorts();
  const sizeBytes = guestMiB * MIB;
  const pages = (sizeBytes - GUEST_SPARED_BYTES) / 4096;
  return (directory) => {
    const plain = testGuestConfig(directory, cpus, { memory: { sizeBytes } });
    const path = (name: string, text: string) => {
      writeFileSync(join(directory, name), text);
      return join(directory, name);
    };
    const https = {
      address: "127.0.0.1",
      port,
      certPath: path("tls.crt", machine.certificate),
      keyPath: path("tls.key", machine.key),
      caPath: path("ca.crt", authority.certificate),
      allowedClients: [OPERATOR_COMMON_NAME],
    };
    const telemetry = { address: "127.0.0.1", port: telemetryPort };
    const commandLine = touched ? `-- dirty 0x400000 ${pages}` : "";
    return { ...plain, boot: { ...plain.boot, commandLine }, control: { ...plain.control, https, telemetry } };
  };
}

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    ports.push(typeof address === "object" && address !== null ? address.port : 0);
  }
  for (const server of servers) server.close();
  return [ports[0] ?? 0, ports[1] ?? 0];
}

/** What operator and kubelet ask of every launcher. */
const asked: Settled = async (_directory, _cgroup, { control }) => {
  const credentials = { certificate: operator.certificate, key: operator.key, trust: authority.certificate };
  const client = new LauncherClient({ credentials: async () => credentials, port: control.https?.port ?? 0 });
  await client.waitFor({ ip: "127.0.0.1", uid }, ["Running"], 10_000);
  for (let i = 0; i < 5; i++) await drain(`http://127.0.0.1:${control.telemetry?.port}/readyz`);
};

const askedAndTouched: Settled = async (directory, cgroup, config) => {
  await asked(directory, cgroup, config);
  const isTouched = async () => cgroup.read().shmemBytes >= config.memory.sizeBytes - GUEST_SPARED_BYTES;
  await waitFor(isTouched, { what: "the guest to touch its memory", timeoutMs: TOUCH_DEADLINE_MS });
};

/** An hour of Prometheus and half a day of probes. */
const askedMuch: Settled = async (directory, cgroup, config) => {
  await asked(directory, cgroup, config);
  // What it gave back soon after its start is taken again.
  await delay(SETTLED_MS);
  for (let i = 0; i < 5000; i++)
    await drain(`http://127.0.0.1:${config.control.telemetry?.port}/${i % 20 === 0 ? "metrics" : "readyz"}`);
};

async function drain(url: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  get(url, (response) => response.resume().on("end", resolve)).on("error", reject);
  await promise;
}

/** A person at the console, as kubectl exec puts one into the pod. */
async function withConsole(): Promise<Row> {
  const config = await inPod({ cpus: 1 });
  let console: ChildProcess | undefined;
  try {
    return await launcher(config, async (directory, cgroup, machineConfig) => {
      await asked(directory, cgroup, machineConfig);
      const [program = "", ...wrapper] = cgroup.wrapper;
      const argv = [...wrapper, process.execPath, launcherBundle, "console", "--socket", socketIn(directory)];
      const env = { ...process.env, ...launcherEnvironment };
      console = spawn(program, argv, { env, stdio: ["pipe", "ignore", "ignore"] });
    });
  } finally {
    if (console?.exitCode === null) await ended(console);
  }
}

/** The first pod on a node: its files are not in the page cache yet, and are charged to whoever reads them first. */
async function firstOnNode(): Promise<Row> {
  const files = mkdtempSync(join(tmpdir(), "bench-files-"));
  try {
    const node = join(files, "node");
    await run(["strip", "--strip-all", "-o", node, process.execPath]);
    cpSync(dirname(launcherBundle), join(files, "launcher"), { recursive: true });
    for (const name of ["node", "launcher/launcher.js", "launcher/koffi.node", "launcher/vcpu.so"])
      await run(["dd", `of=${join(files, name)}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
    return await launcher(await inPod({ cpus: 1 }), asked, { node, bundle: join(files, "launcher/launcher.js") });
  } finally {
    rmSync(files, { recursive: true });
  }
}

function report(name: string, row: Row): Row & { name: string } {
  console.error(
    `${name}: ${Object.entries(row)
      .map(([field, MiB]) => `${field} ${MiB}`)
      .join(", ")}`,
  );
  return { name, ...row } as Row & { name: string };
}

const bundle = `require(${JSON.stringify(launcherBundle)})`;
const koffi = `process.dlopen({ exports: {} }, ${JSON.stringify(join(repository, "dist/launcher/koffi.node"))})`;
const pod = async (shape: PodShape, settle = asked) => await launcher(await inPod(shape), settle);
const rows: Readonly<Record<string, () => Promise<Row>>> = {
  "node, idle": () => idleNode(""),
  "+ bundle": () => idleNode(bundle),
  "+ koffi": () => idleNode(`${bundle}; ${koffi}`),
  "+ machine of 1 vCPU and 64 MiB": () => launcher((directory) => testGuestConfig(directory, 1)),
  "+ TLS and telemetry = pod": () => pod({ cpus: 1 }),
  "pod, asked 5,000 times": () => pod({ cpus: 1 }, askedMuch),
  "pod of 8 vCPUs": () => pod({ cpus: 8 }),
  "pod of 64 vCPUs": () => pod({ cpus: 64 }),
  "pod of 64 MiB, all touched": () => pod({ cpus: 1, touched: true }, askedAndTouched),
  "pod of 1 GiB, all touched": () => pod({ cpus: 1, guestMiB: 1024, touched: true }, askedAndTouched),
  "pod and a console": withConsole,
};
const results = [];
for (const [name, measure] of Object.entries(rows)) {
  if (!pattern.test(name)) continue;
  // At once, as on a node: what they share is not private then.
  results.push(report(name, medians(await Promise.all(Array.from({ length: runs }, measure)), 1)));
}
const first = "pod, first on its node";
if (pattern.test(first)) results.push(report(first, await firstOnNode()));
const named = results.map(({ name, ...row }) => ({ "MiB beside guest RAM": name, ...row }));
console.error(`\n${table(named)}`);
console.log(JSON.stringify({ runs, results }, null, 2));
