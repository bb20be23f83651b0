import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { stringify } from "yaml";
import { FakeApiServer } from "../../../operator/src/runtime/testing/fake-api-server.ts";
import type { Environment } from "../environment.ts";
import { run } from "../run.ts";

/** When it is in tests. */
export const NOW = "2026-03-01T12:00:00Z";

/** What a command line left behind. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A fake API server, and command lines that talk to it through a kubeconfig, as a user's do. */
export class TestCli implements AsyncDisposable {
  readonly api: FakeApiServer;
  readonly kubeconfig: string;
  readonly #directory: string;

  private constructor(api: FakeApiServer) {
    this.api = api;
    this.#directory = mkdtempSync(join(tmpdir(), "kubectl-vm-"));
    this.kubeconfig = join(this.#directory, "kubeconfig");
    writeFileSync(this.kubeconfig, stringify(kubeconfigFor(api.url)));
    api.now = () => Date.parse(NOW);
  }

  static async start(): Promise<TestCli> {
    return new TestCli(await FakeApiServer.start());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true });
  }

  /** Runs a command line to its end. */
  async run(...args: string[]): Promise<Outcome> {
    const screen = new Screen();
    const code = await run(args, screen.environment({ KUBECONFIG: this.kubeconfig }));
    return { code, stdout: screen.stdout, stderr: screen.stderr };
  }
}

/** Input and output of a command, without a terminal unless `terminal` gives its size. */
export class Screen {
  readonly input = new PassThrough();
  readonly interrupt = new AbortController();
  stdout = "";
  stderr = "";
  /** Whether the terminal hands on keys as they are typed, as it was set last. */
  isRaw = false;

  environment(
    variables: Readonly<Record<string, string | undefined>>,
    terminal?: { readonly columns: number; readonly rows: number },
  ): Environment {
    const keep = (to: "stdout" | "stderr") => ({
      write: (bytes: string | Uint8Array) => {
        this[to] += Buffer.from(bytes as Uint8Array).toString("utf8");
        return true;
      },
      ...(terminal === undefined ? {} : { isTTY: true, ...terminal }),
    });
    return {
      stdin: (terminal === undefined
        ? this.input
        : Object.assign(this.input, { isTTY: true, setRawMode: (raw: boolean) => this.#setRaw(raw) })) as never,
      stdout: keep("stdout"),
      stderr: keep("stderr"),
      variables,
      now: () => Date.parse(NOW),
      signal: this.interrupt.signal,
      self: ["/usr/bin/node", "/opt/kubectl vm/kubectl-vm.js"],
    };
  }

  #setRaw(raw: boolean): PassThrough {
    this.isRaw = raw;
    return this.input;
  }
}

/**
 * What a command printed last time, kept beside its test. With TYPEVISOR_UPDATE_GOLDEN=true `actual` becomes it; read
 * the difference before it is committed.
 */
export function golden(file: string, actual: string): string {
  const path = join(import.meta.dirname, file);
  if (process.env["TYPEVISOR_UPDATE_GOLDEN"] === "true") writeFileSync(path, actual);
  return readFileSync(path, "utf8");
}

function kubeconfigFor(server: string): object {
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "fake", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "someone", user: {} }],
    contexts: [
      { name: "fake", context: { cluster: "fake", user: "someone", namespace: "team-a" } },
      { name: "other", context: { cluster: "fake", user: "someone" } },
    ],
    "current-context": "fake",
  };
}
