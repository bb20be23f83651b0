import type { CpuFeatures } from "../../../../launcher/api/cpu-features.ts";
import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import { messageOf } from "../../runtime/errors.ts";
import type { Logger } from "../../runtime/logger.ts";
import { reflect } from "../../runtime/reflect.ts";
import { Store } from "../../runtime/store.ts";
import { type Node, resources } from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import { describeNode } from "../../scheduling/node-cpu.ts";

export interface NodeLabellerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly nodeName: string;
  /** What guests are given here; undefined while KVM cannot be used, and what was said before then stays. */
  readonly features: () => CpuFeatures | undefined;
}

const FIELD_MANAGER = "typevisor-node";

/**
 * Keeps the labels by which a node says what guests are given there: at the start, and whenever they are not as they should
 * be, as when somebody took them away, or when the node was registered anew. Nothing on the node waits for it.
 */
export class NodeLabeller {
  readonly #options: NodeLabellerOptions;
  readonly #nodes = new Store<Node>();
  readonly #queue: WorkQueue;

  constructor(options: NodeLabellerOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({ name: "node", clock: options.clock });
    this.#nodes.onChange(() => this.look());
  }

  /** Looks again: what guests are given may have changed. */
  look(): void {
    this.#queue.add(this.#options.nodeName);
  }

  /** Works until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { nodeName, logger } = this.#options;
    const context = { ...this.#options, namespaces: [] };
    const fieldSelector = `metadata.name=${nodeName}`;
    const reflection = { resource: resources.nodes, store: this.#nodes, trim: trimOwn, fieldSelector };
    signal.addEventListener("abort", () => this.#queue.close(), { once: true });
    await Promise.all([
      ...reflect<Node>(context, reflection, signal),
      this.#queue.run(
        1,
        () => this.#keep(),
        (_, error) => {
          const fields = { err: messageOf(error), reason: "NodeNotLabelled" };
          logger.warn(fields, "The node could not be labelled; machines may not find it when they move. Tries again");
        },
      ),
    ]);
  }

  async #keep(): Promise<void> {
    const { client, logger, features, nodeName } = this.#options;
    const node = this.#nodes.get(nodeName);
    const given = features();
    if (node === undefined || given === undefined) return;
    const wanted = describeNode(given);
    const { labels = {}, annotations = {}, uid = "" } = node.metadata ?? {};
    if (holds(labels, wanted.labels) && holds(annotations, wanted.annotations)) return;
    // By UID: applying to a node that has gone meanwhile would make one.
    const metadata = { name: nodeName, uid, labels: { ...wanted.labels }, annotations: { ...wanted.annotations } };
    this.#nodes.put(
      trimOwn(await client.apply(resources.nodes, { metadata } as Node, { fieldManager: FIELD_MANAGER })),
    );
    logger.info({ labels: wanted.labels, reason: "NodeLabelled" }, "the node says what guests are given here");
  }
}

function holds(present: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => present[key] === value);
}

/** What is looked at of a node, of which images and conditions are most. */
function trimOwn({ apiVersion, kind, metadata }: Node): Node {
  const { managedFields: _, ...rest } = metadata ?? {};
  return {
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(kind === undefined ? {} : { kind }),
    metadata: rest,
  };
}
