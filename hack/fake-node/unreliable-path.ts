import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent, request } from "node:https";
import type { AddressInfo } from "node:net";
import type { ApiServer } from "../lib/apiserver.ts";

/** What may become of a request: `lost` is the answer's loss, after the API server has done what was asked. */
const faults = ["refused", "cut", "lost"] as const;
type Fault = (typeof faults)[number];

/**
 * A way to the API server on which requests fail: plain HTTP on the loopback interface. It counts what passes, and cuts
 * watches when told.
 */
export class UnreliablePath implements AsyncDisposable {
  /** Share of the requests that fail, 0 to 1; any third of them refused, cut on the way there, or lost on the way back. */
  failing = 0;
  /** Writes by method and what they were to, like "POST pods". */
  readonly writes = new Map<string, number>();
  readonly failed: Record<Fault, number> = { refused: 0, cut: 0, lost: 0 };
  readonly #server: ApiServer;
  readonly #agent: Agent;
  readonly #watches = new Set<ServerResponse>();
  readonly #random: () => number;
  readonly #listener = createServer((incoming, outgoing) => this.#pass(incoming, outgoing));

  private constructor(server: ApiServer, random: () => number) {
    this.#server = server;
    this.#random = random;
    this.#agent = new Agent({ keepAlive: true, ca: server.certificateAuthority });
  }

  /** `random` gives numbers in [0, 1). */
  static async open(server: ApiServer, random: () => number = Math.random): Promise<UnreliablePath> {
    const path = new UnreliablePath(server, random);
    path.#listener.listen(0, "127.0.0.1");
    await once(path.#listener, "listening");
    return path;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  /** Cuts all watches at once; answers how many there were. */
  cutWatches(): number {
    const cut = [...this.#watches];
    for (const watch of cut) watch.destroy();
    return cut.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#listener, "close");
    this.#listener.close();
    this.#listener.closeAllConnections();
    this.#agent.destroy();
    await closed;
  }

  #pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const url = new URL(incoming.url ?? "/", this.#server.url);
    const isWatch = url.searchParams.get("watch") !== null;
    const fault = this.#fault();
    if (fault === "cut") return void outgoing.destroy();
    if (fault === "refused") return void outgoing.writeHead(503).end("the test refuses this request");
    this.#count(incoming.method ?? "", url.pathname);
    const { method, headers } = incoming;
    const onward = request(url, { method, agent: this.#agent, headers: { ...headers, host: url.host } }, (answer) => {
      if (fault === "lost") {
        answer.resume().once("end", () => outgoing.destroy());
        return;
      }
      if (isWatch) this.#watches.add(outgoing);
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      outgoing.flushHeaders();
      answer.pipe(outgoing);
      answer.once("error", () => outgoing.destroy());
    });
    onward.once("error", () => outgoing.destroy());
    outgoing.once("close", () => {
      this.#watches.delete(outgoing);
      onward.destroy();
    });
    incoming.pipe(onward);
  }

  #fault(): Fault | undefined {
    if (this.#random() >= this.failing) return undefined;
    const fault = faults[Math.floor(this.#random() * faults.length)] ?? "cut";
    this.failed[fault] += 1;
    return fault;
  }

  #count(method: string, path: string): void {
    if (method === "GET") return;
    const [, resource = path] = /\/namespaces\/[^/]+\/([^/]+)/.exec(path) ?? [];
    const key = `${method} ${resource}${path.endsWith("/status") ? "/status" : ""}`;
    this.writes.set(key, (this.writes.get(key) ?? 0) + 1);
  }
}
