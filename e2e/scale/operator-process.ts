import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { waitFor } from "../../hack/lib/step.ts";
import { freePorts } from "../../launcher/src/testing/free-ports.ts";

const program = join(import.meta.dirname, "../../dist/operator/operator.js");

/** How the operator reaches what it works with. */
export interface OperatorSurroundings {
  /** URL and bearer token of the API server. */
  readonly server: string;
  readonly token: string;
  readonly namespace: string;
  /** Port that all launchers answer on. */
  readonly launcherPort: number;
}

/** The operator's own bundle as a process of this machine, started again when it ends, as a kubelet does. */
export class OperatorProcess implements AsyncDisposable {
  readonly #surroundings: OperatorSurroundings;
  readonly #directory: string;
  readonly #httpPort: number;
  #child: ChildProcess;
  #ends = 0;
  #isStopping = false;

  private constructor(surroundings: OperatorSurroundings, directory: string, httpPort: number) {
    this.#surroundings = surroundings;
    this.#directory = directory;
    this.#httpPort = httpPort;
    this.#child = this.#spawn();
  }

  /** Resolves once it is ready. */
  static async start(surroundings: OperatorSurroundings): Promise<OperatorProcess> {
    const directory = await mkdtemp(join(tmpdir(), "typevisor-operator-"));
    await writeFile(join(directory, "kubeconfig"), kubeconfigFor(surroundings), { mode: 0o600 });
    const [httpPort = 0] = await freePorts(1);
    await using stack = new AsyncDisposableStack();
    const operator = stack.use(new OperatorProcess(surroundings, directory, httpPort));
    await waitFor(() => operator.#isReady(), { what: "the operator", timeoutMs: 60_000 });
    stack.move();
    return operator;
  }

  /** How often it has ended by itself. It does when it has not heard of its lease for ten seconds. */
  get ends(): number {
    return this.#ends;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
    }
    await rm(this.#directory, { recursive: true });
  }

  #spawn(): ChildProcess {
    const { namespace, launcherPort } = this.#surroundings;
    const flags = [`--kubeconfig=${join(this.#directory, "kubeconfig")}`, "--leader-elect"];
    flags.push("--launcher-image=registry.example/launcher:test", `--launcher-control-port=${launcherPort}`);
    flags.push(`--http-port=${this.#httpPort}`, "--log-level=error");
    const child = spawn(process.execPath, [program, "controllers", ...flags], {
      stdio: ["ignore", "inherit", "inherit"],
      env: { POD_NAMESPACE: namespace, POD_NAME: "operator-0", NODE_OPTIONS: "--expose-gc" },
    });
    child.once("exit", () => {
      if (this.#isStopping) return;
      this.#ends += 1;
      this.#child = this.#spawn();
    });
    return child;
  }

  #isReady(): Promise<boolean> {
    if (this.#ends > 0) throw new Error("the operator ended before it was ready");
    return fetch(`http://127.0.0.1:${this.#httpPort}/readyz`).then(
      (answer) => answer.ok,
      () => false,
    );
  }
}

// Without TLS: client-node takes plain HTTP only where it need not check whom it speaks to.
function kubeconfigFor({ server, token }: OperatorSurroundings): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "operator", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "operator" } }],
    "current-context": "test",
  });
}
