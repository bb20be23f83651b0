import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import type { VirtualMachineStatus } from "../../crds/src/status.ts";
import { CommandError, type RunOptions, run } from "../../hack/lib/step.ts";
import { eventually } from "./eventually.ts";

type Condition = NonNullable<VirtualMachineStatus["conditions"]>[number];

/** What kinds have as their status, as far as tests look at it. */
export interface Statuses {
  readonly vm: VirtualMachineStatus;
  readonly pod: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
  };
}
type StatusOf<Kind extends string> = Kind extends keyof Statuses ? Statuses[Kind] : unknown;

/** As much of an object as tests look at; they do so once a controller has written its status. */
export interface KubeObject<Status = VirtualMachineStatus> {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation?: number;
    readonly deletionTimestamp?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly spec: Record<string, unknown>;
  readonly status: Status;
}

/** kubectl as a user runs it, bound to one cluster and namespace. */
export class Kubectl {
  readonly #kubectl: string;
  readonly #kubeconfig: string;
  readonly namespace: string;

  constructor(kubectl: string, kubeconfig: string, namespace: string) {
    this.#kubectl = kubectl;
    this.#kubeconfig = kubeconfig;
    this.namespace = namespace;
  }

  in(namespace: string): Kubectl {
    return new Kubectl(this.#kubectl, this.#kubeconfig, namespace);
  }

  argv(...args: string[]): string[] {
    return [this.#kubectl, `--kubeconfig=${this.#kubeconfig}`, `--namespace=${this.namespace}`, ...args];
  }

  run(args: string[], options: RunOptions = {}): Promise<string> {
    return run(this.argv(...args), { timeoutMs: 60_000, ...options });
  }

  apply(manifest: object | string): Promise<string> {
    return this.run(["apply", "-f", "-"], {
      input: typeof manifest === "string" ? manifest : JSON.stringify(manifest),
    });
  }

  /** Applies what should be refused, and answers kubectl's error text. */
  async refused(manifest: object): Promise<string> {
    const failure = await this.apply(manifest).catch((error: unknown) => error);
    if (failure instanceof CommandError) return failure.output;
    throw typeof failure === "string" ? new Error(`this was accepted: ${JSON.stringify(manifest)}`) : failure;
  }

  /** Null where there is no such object. */
  async get<Kind extends string>(kind: Kind, name: string): Promise<KubeObject<StatusOf<Kind>> | null> {
    const text = await this.run(["get", kind, name, "--ignore-not-found", "-o", "json"]);
    return text.trim() === "" ? null : (JSON.parse(text) as KubeObject<StatusOf<Kind>>);
  }

  async list(kind: string, selector?: string): Promise<KubeObject<unknown>[]> {
    const text = await this.run(["get", kind, "-o", "json", ...(selector ? ["-l", selector] : [])]);
    return (JSON.parse(text) as { items: KubeObject<unknown>[] }).items;
  }

  /** Waits by watching, and answers the object. */
  async waitFor<Kind extends string>(
    kind: Kind,
    name: string,
    condition: string,
    timeoutMs = 60_000,
  ): Promise<KubeObject<StatusOf<Kind>>> {
    const seconds = Math.ceil(timeoutMs / 1000);
    try {
      await this.run(["wait", `${kind}/${name}`, `--for=${condition}`, `--timeout=${seconds}s`], {
        timeoutMs: timeoutMs + 10_000,
      });
    } catch (error) {
      throw new Error(`${String(error)}\n${await this.#story(kind, name)}`);
    }
    const object = await this.get(kind, name);
    if (object === null) throw new Error(`${kind}/${name} was ${condition} and is gone`);
    return object;
  }

  /** Waits for a VM's condition to have this status and reason. */
  async vmCondition(
    name: string,
    type: string,
    status: string,
    reason?: string,
    timeoutMs = 60_000,
  ): Promise<Condition> {
    try {
      return await eventually(`VM ${name} ${type}=${status} ${reason ?? ""}`, timeoutMs, async () => {
        const vm = await this.get("vm", name);
        const found = vm?.status.conditions?.find((condition) => condition.type === type);
        const current = found?.observedGeneration === vm?.metadata.generation;
        return (
          found && current && found.status === status && (reason === undefined || found.reason === reason) && found
        );
      });
    } catch (error) {
      throw new Error(`${String(error)}\n${await this.#story("vm", name)}`);
    }
  }

  async events(name: string): Promise<{ reason: string; type: string; note: string }[]> {
    const text = await this.run(["get", "events.events.k8s.io", "-o", "json"]);
    const items = (
      JSON.parse(text) as { items: { regarding?: { name?: string }; reason: string; type: string; note: string }[] }
    ).items;
    return items.filter((event) => event.regarding?.name === name);
  }

  /** What there is to know when a wait was in vain. */
  async #story(kind: string, name: string): Promise<string> {
    const commands = [
      ["get", kind, name, "-o", "yaml"],
      ["get", "pods", "-o", "wide"],
      ["get", "events", "--sort-by=.lastTimestamp"],
      ["logs", `vm-${name}`, "--tail=20"],
    ];
    const told: string[] = [];
    for (const command of commands) told.push(await this.run(command).catch(String));
    return told.join("\n");
  }

  /** A running `kubectl` whose input and output the test drives, such as a console. */
  interactive(args: string[]): Session {
    return new Session(this.argv(...args));
  }
}

/** A command that goes on while a test talks to it. */
export class Session implements AsyncDisposable {
  readonly #child;
  readonly #news = new EventEmitter();
  readonly #ended: Promise<unknown>;
  #output = "";
  #exitCode: number | undefined;

  constructor(argv: readonly string[]) {
    const [program = "", ...args] = argv;
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: process.env });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
        this.#news.emit("news");
      });
    this.#child.stdin.on("error", () => undefined);
    this.#ended = once(this.#child, "close");
    this.#child.on("close", (code) => {
      this.#exitCode = code ?? 128;
      this.#news.emit("news");
    });
  }

  write(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits until the output since the start holds `pattern`; throws when the command ends without, or too late. */
  async expect(pattern: RegExp, deadlineMs = 30_000): Promise<RegExpExecArray> {
    const signal = AbortSignal.timeout(deadlineMs);
    for (;;) {
      const found = pattern.exec(this.#output);
      if (found !== null) return found;
      if (this.#exitCode !== undefined || signal.aborted) {
        const why = signal.aborted ? `not within ${deadlineMs} ms` : `the command ended with ${this.#exitCode}`;
        throw new Error(`output ${pattern}: ${why}\noutput so far:\n${this.#output}`);
      }
      await once(this.#news, "news", { signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    await this.#ended;
  }
}
