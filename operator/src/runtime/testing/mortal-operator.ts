import { type Connection, plainConnection } from "../connection.ts";
import type { FakeApiServer, FakeRequest } from "./fake-api-server.ts";

/** At the n-th write, before or after the API server has carried it out. */
export interface KillAt {
  readonly write: number;
  readonly when: "before" | "after";
}

/** Starts an operator, which works through `connection` until `signal` is aborted; resolves when it has ended. */
export type LaunchOperator = (connection: Connection, signal: AbortSignal) => Promise<unknown>;

/** An operator on a fake API server that can be killed at any moment, and is replaced by a new one as soon as it dies. */
export class MortalOperator implements AsyncDisposable {
  /** Writes of all operators so far, events apart. */
  writes = 0;
  kills = 0;
  killAt: KillAt | undefined;
  readonly #server: FakeApiServer;
  readonly #launch: LaunchOperator;
  #running: { readonly stop: AbortController; readonly ended: Promise<unknown> };
  #ended = false;

  constructor(server: FakeApiServer, launch: LaunchOperator) {
    this.#server = server;
    this.#launch = launch;
    server.intercept = (request) => this.#intercept(request);
    this.#running = this.#start();
  }

  /** Kills the operator now; what it leaves behind is what another one finds, which takes its place. */
  kill(): void {
    this.kills += 1;
    this.#running.stop.abort();
    this.#running = this.#start();
  }

  /** Nobody takes its place. */
  async uninstall(): Promise<void> {
    this.#ended = true;
    this.#running.stop.abort();
    await this.#running.ended;
  }

  install(): void {
    this.#ended = false;
    this.#running = this.#start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.uninstall();
  }

  #intercept(request: FakeRequest) {
    if (!request.isWrite) return undefined;
    this.writes += 1;
    if (this.killAt === undefined || this.writes !== this.killAt.write || this.#ended) return undefined;
    const { when } = this.killAt;
    // The answer never arrives; nor does the dead operator send anything more.
    this.kill();
    return { kind: when === "before" ? ("drop-before" as const) : ("drop-after" as const) };
  }

  #start() {
    const stop = new AbortController();
    return { stop, ended: this.#launch(mortal(plainConnection(this.#server.url), stop.signal), stop.signal) };
  }
}

/** A connection that sends nothing once its process is dead. */
function mortal(connection: Connection, dead: AbortSignal): Connection {
  dead.addEventListener("abort", () => connection[Symbol.dispose]());
  return {
    ...connection,
    prepare: async () => {
      if (dead.aborted) throw new Error("the process is dead");
      return await connection.prepare();
    },
  };
}

export interface Life<Simulation> {
  /** Throws where something does not come about. */
  readonly live: (simulation: Simulation) => Promise<void>;
  /** What went wrong in it beside that. */
  readonly sins: (simulation: Simulation) => readonly string[];
}

/**
 * Lives through the same life again and again, with the operator killed at its first write, its second, and so on, until
 * a life has no more writes. Answers how many lives there were, and what went wrong.
 */
export async function killedAtEachWrite<Simulation extends AsyncDisposable & { readonly operator: MortalOperator }>(
  when: KillAt["when"],
  start: () => Promise<Simulation>,
  { live, sins }: Life<Simulation>,
): Promise<{ readonly lives: number; readonly failures: readonly string[] }> {
  const failures: string[] = [];
  let lives = 0;
  for (let killed = true; killed; ) {
    lives += 1;
    await using simulation = await start();
    const { operator } = simulation;
    operator.killAt = { write: lives, when };
    const wrong = await live(simulation).then(
      () => [],
      (error: unknown) => [String(error)],
    );
    failures.push(...[...wrong, ...sins(simulation)].map((what) => `write ${lives}: ${what}`));
    killed = operator.kills > 0;
  }
  return { lives, failures };
}
