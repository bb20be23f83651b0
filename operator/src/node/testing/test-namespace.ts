import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import type { AgentAnswer, AgentWant } from "../../../../launcher/api/agent.ts";

const node = join(import.meta.dirname, "../../../../node_modules/.bin/node");

/** What a process in a namespace can be asked to do. */
export type NamespaceOrder =
  /** Asks the agent, and keeps what it gets. */
  | { readonly do: "ask"; readonly socketPath: string; readonly want: readonly AgentWant[] }
  /** Makes eth0 in the guest's namespace, and passes frames between it and the first descriptor. */
  | { readonly do: "relay"; readonly guestNamespace: string }
  /** Closes all that it was given, as a launcher that ends does. */
  | { readonly do: "release" }
  | { readonly do: "listen"; readonly protocol: "tcp" | "udp"; readonly port: number; readonly label: string }
  | ({
      readonly do: "exchange";
      readonly protocol: "tcp" | "udp";
      readonly host: string;
      readonly port: number;
    } & ExchangeOptions)
  /** Collects packets of all interfaces, or frames of a descriptor, as hexadecimal. */
  | { readonly do: "sniff" }
  | { readonly do: "collect"; readonly descriptor: number }
  | { readonly do: "seen" }
  /** Has a TAP stay when nobody holds it (TUNSETPERSIST). */
  | { readonly do: "persist"; readonly descriptor: number }
  /** Takes a TAP's carrier away (TUNSETCARRIER). */
  | { readonly do: "unplug"; readonly descriptor: number }
  /** Writes a frame to a descriptor. */
  | { readonly do: "send"; readonly descriptor: number; readonly hex: string };

export interface ExchangeOptions {
  /** What is sent by TCP. */
  readonly lengthBytes?: number;
  readonly timeoutMs?: number;
}

let count = 0;

/** A network namespace with a process in it. Needs root and iproute2. */
export class TestNamespace implements AsyncDisposable {
  readonly name: string;
  readonly #programs: ChildProcess[] = [];
  #child: ChildProcess | undefined;
  #answers: AsyncIterator<string> | undefined;
  /** Orders are obeyed one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  readonly #owned: boolean;

  constructor(role: string, of?: TestNamespace) {
    this.#owned = of === undefined;
    this.name = of?.name ?? `tv-${process.pid}-${++count}-${role}`;
    if (of !== undefined) return;
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link set lo up");
    // Addresses are usable at once, as they are when a CNI plugin is done.
    for (const which of ["all", "default"]) this.set(`ipv6/conf/${which}/accept_dad`, "0");
  }

  /** Another process in the same namespace. */
  sibling(): TestNamespace {
    return new TestNamespace("", this);
  }

  get path(): string {
    return `/run/netns/${this.name}`;
  }

  /** Runs ip(8) with words that have no spaces in them. */
  ip(words: string): string {
    return execFileSync("ip", ["-netns", this.name, ...words.split(" ")], { encoding: "utf8" });
  }

  run(program: string, args: readonly string[], input = ""): string {
    const command = ["netns", "exec", this.name, program, ...args];
    return execFileSync("ip", command, { encoding: "utf8", input, stdio: ["pipe", "pipe", "pipe"] });
  }

  /** Starts a program in it, which ends with the namespace; `exited` has all that it wrote. */
  spawn(program: string, args: readonly string[]): { readonly exited: Promise<string> } {
    const child = spawn("ip", ["netns", "exec", this.name, program, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    this.#programs.push(child);
    return { exited: text(child.stdout) };
  }

  set(setting: string, value: string): void {
    this.run("tee", [`/proc/sys/net/${setting}`], value);
  }

  get(setting: string): string {
    return this.run("cat", [`/proc/sys/net/${setting}`]).trim();
  }

  async order(order: NamespaceOrder): Promise<unknown> {
    const done = this.#last.then(() => this.#obey(order));
    this.#last = done.catch(() => {});
    return await done;
  }

  async ask(socketPath: string, want: readonly AgentWant[]): Promise<{ answer: AgentAnswer; fdCount: number }> {
    return (await this.order({ do: "ask", socketPath, want })) as { answer: AgentAnswer; fdCount: number };
  }

  /** What the other end says of itself and of this one; throws its error where it does not. */
  async exchange(protocol: "tcp" | "udp", host: string, port: number, options: ExchangeOptions = {}): Promise<string> {
    return String(await this.order({ do: "exchange", protocol, host, port, ...options }));
  }

  async seen(): Promise<readonly string[]> {
    return (await this.order({ do: "seen" })) as readonly string[];
  }

  /** Ends its process, and starts another when there is more to do. */
  async endProcess(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child !== undefined) await end(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endProcess();
    for (const program of this.#programs) await end(program);
    if (this.#owned) execFileSync("ip", ["netns", "del", this.name]);
  }

  async #obey(order: NamespaceOrder): Promise<unknown> {
    this.#start();
    this.#child?.stdin?.write(`${JSON.stringify(order)}\n`);
    const line = await this.#answers?.next();
    if (line === undefined || line.done) throw new Error(`the process in ${this.name} has ended`);
    const { result, error } = JSON.parse(line.value);
    if (error !== undefined) throw new Error(error);
    return result;
  }

  #start(): void {
    if (this.#child !== undefined) return;
    const script = join(import.meta.dirname, "namespace-process.ts");
    this.#child = spawn("ip", ["netns", "exec", this.name, node, script], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("the process was started without a pipe");
    this.#answers = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }
}

async function end(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** A cable between two namespaces. */
export function cable(a: [TestNamespace, string], b: [TestNamespace, string]): void {
  const [[left, leftName], [right, rightName]] = [a, b];
  left.ip(`link add ${leftName} type veth peer name ${rightName} netns ${right.name}`);
  left.ip(`link set ${leftName} up`);
  right.ip(`link set ${rightName} up`);
}
