import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { freePorts } from "../../launcher/src/testing/free-ports.ts";
import { ensureTools } from "../dev-cluster/tools/tools.ts";
import { run, tail, waitFor } from "./step.ts";

/** An etcd and a kube-apiserver of their own on the loopback interface, without nodes, controllers or scheduler. */
export interface ApiServer extends AsyncDisposable {
  readonly url: string;
  /** Kubeconfig of an administrator (system:masters). */
  readonly kubeconfig: string;
  /** PEM. */
  readonly certificateAuthority: string;
  /** Bearer token of that administrator. */
  readonly token: string;
  /** Speaks to the API as that administrator; any HTTP status is an answer, not an error. */
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  /** Standard output of kubectl; rejects with a CommandError when it fails. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Ends the API server, as an upgrade would or as a crash does, and starts it again on the same address and data. */
  restart(how?: "ended" | "killed"): Promise<void>;
}

export interface RequestOptions {
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default: application/json. */
  readonly contentType?: string;
  /** Bearer token of somebody else than the administrator. */
  readonly token?: string;
  /** User to act as, e.g. "system:serviceaccount:typevisor-system:typevisor-operator". */
  readonly impersonate?: string;
}

export interface Answer {
  readonly status: number;
  /** Parsed JSON, or text where it is not. */
  readonly body: unknown;
  /** Texts of the Warning headers. */
  readonly warnings: readonly string[];
}

/** Starts both and waits until the API server is ready; builds Kubernetes first where it was never built. */
export async function startApiServer(): Promise<ApiServer> {
  const { kube } = await ensureTools();
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "typevisor-apiserver-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const [etcdPort = 0, peerPort = 0, apiPort = 0] = await freePorts(3);
  const token = randomBytes(16).toString("hex");
  await writeFile(join(dir, "tokens.csv"), `${token},admin,admin,"system:masters"\n`, { mode: 0o600 });
  await writeServiceAccountKey(dir);

  const etcd = start(dir, "etcd", etcdCommand(dir, etcdPort, peerPort));
  stack.defer(() => stop(etcd));
  const startServer = () => start(dir, "kube-apiserver", apiServerCommand(dir, kube, { etcdPort, apiPort }));
  let server = startServer();
  stack.defer(() => stop(server));

  const url = `https://127.0.0.1:${apiPort}`;
  // The API server makes its own certificate and writes it with its authority's.
  const certificateFile = join(dir, "certs/apiserver.crt");
  const log = join(dir, "kube-apiserver.log");
  const certificateAuthority = await waitFor(() => readFile(certificateFile, "utf8").catch(() => undefined), {
    what: "the API server's certificate",
    timeoutMs: 60_000,
    logFile: log,
  });
  const ask: ApiServer["request"] = (method, path, options = {}) =>
    send(`${url}${path}`, { method, token, certificateAuthority, ...options });
  const ready = () =>
    waitFor(() => isReady(ask, server, log), {
      what: "the API server",
      timeoutMs: 90_000,
      intervalMs: 100,
      logFile: log,
    });
  await ready();
  const kubeconfig = join(dir, "kubeconfig");
  await writeFile(kubeconfig, renderKubeconfig(url, certificateAuthority, token), { mode: 0o600 });

  const owned = stack.move();
  return {
    url,
    kubeconfig,
    certificateAuthority,
    token,
    request: ask,
    kubectl: (args, input) =>
      run([join(kube, "kubectl"), `--kubeconfig=${kubeconfig}`, ...args], input === undefined ? {} : { input }),
    async restart(how = "ended") {
      await stop(server, how === "killed" ? "SIGKILL" : "SIGTERM");
      server = startServer();
      await ready();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function isReady(ask: ApiServer["request"], server: ChildProcess, log: string): Promise<boolean> {
  if (server.exitCode !== null) throw new Error(`kube-apiserver ended while it started:\n${await tail(log)}`);
  return ask("GET", "/readyz").then(
    ({ status }) => status === 200,
    () => false,
  );
}

function etcdCommand(dir: string, port: number, peerPort: number): string[] {
  const client = `http://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  return [
    "etcd",
    "--name=test",
    `--data-dir=${join(dir, "etcd")}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=test=${peer}`,
    "--unsafe-no-fsync",
  ];
}

function apiServerCommand(dir: string, kube: string, ports: { etcdPort: number; apiPort: number }): string[] {
  return [
    join(kube, "kube-apiserver"),
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${ports.apiPort}`,
    // Endpoints must not be loopback addresses; nothing needs the Service `kubernetes` here.
    "--endpoint-reconciler-type=none",
    `--etcd-servers=http://127.0.0.1:${ports.etcdPort}`,
    `--cert-dir=${join(dir, "certs")}`,
    `--token-auth-file=${join(dir, "tokens.csv")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${join(dir, "service-account.key")}`,
    `--service-account-signing-key-file=${join(dir, "service-account.key")}`,
    "--service-cluster-ip-range=10.0.0.0/24",
    "--authorization-mode=RBAC",
    "--allow-privileged=true",
    "--profiling=false",
  ];
}

function start(dir: string, name: string, argv: readonly string[]): ChildProcess {
  const log = openSync(join(dir, `${name}.log`), "a");
  const [program = "", ...args] = argv;
  const child = spawn(program, args, { cwd: dir, stdio: ["ignore", log, log] });
  closeSync(log);
  // A test run that is cut short must not leave servers behind.
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.removeListener("exit", kill));
  return child;
}

async function stop(child: ChildProcess, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = once(child, "exit");
  child.kill(signal);
  const force = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(force);
}

async function writeServiceAccountKey(dir: string): Promise<void> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = privateKey.export({ type: "sec1", format: "pem" });
  await writeFile(join(dir, "service-account.key"), pem, { mode: 0o600 });
}

function renderKubeconfig(server: string, certificateAuthority: string, token: string): string {
  const authority = Buffer.from(certificateAuthority).toString("base64");
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server, "certificate-authority-data": authority } }],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
}

interface Credentials {
  readonly token: string;
  readonly certificateAuthority: string;
}

async function send(url: string, options: RequestOptions & Credentials & { method: string }): Promise<Answer> {
  const payload = options.body === undefined ? undefined : JSON.stringify(options.body);
  const outgoing = request(url, {
    method: options.method,
    ca: options.certificateAuthority,
    timeout: 30_000,
    headers: {
      authorization: `Bearer ${options.token}`,
      accept: "application/json",
      ...(payload === undefined ? {} : { "content-type": options.contentType ?? "application/json" }),
      ...(options.impersonate === undefined ? {} : { "impersonate-user": options.impersonate }),
    },
  });
  outgoing.once("timeout", () => outgoing.destroy(new Error(`${options.method} ${url}: no answer in 30 s`)));
  outgoing.end(payload);
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  const text = Buffer.concat(await response.toArray()).toString();
  // warn-code warn-agent "text"
  const warnings = [response.headers["warning"] ?? []]
    .flat()
    .map((line) => /"(.*)"/.exec(line)?.[1]?.replace(/\\(.)/g, "$1") ?? line);
  return { status: response.statusCode ?? 0, body: parseJson(text), warnings };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
