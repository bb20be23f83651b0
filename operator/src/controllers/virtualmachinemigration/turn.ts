import type { MigrationPriority } from "../../../../crds/src/virtualmachinemigration.ts";
import type { MigrationSettings } from "./settings.ts";

/** A migration that waits for its turn. */
export interface Waiting {
  readonly uid: string;
  readonly priority: MigrationPriority;
  /** RFC 3339. */
  readonly createdAt: string;
  /** "namespace/name" of the machine. */
  readonly machine: string;
  /** Node that the machine is on; one that is on none takes nobody's turn. */
  readonly node: string | undefined;
}

/** A migration that has a place. */
export type Active = Pick<Waiting, "machine" | "node">;

const RANKS: Readonly<Record<MigrationPriority, number>> = { Drain: 0, User: 1, Maintenance: 2 };

/**
 * Undefined where the migration's turn has come; else what it waits for. Places go by priority, then by age; who cannot use
 * one (its node has enough, its machine moves already) lets others go first.
 */
export function waitsFor(
  uid: string,
  { active, waiting }: { readonly active: readonly Active[]; readonly waiting: readonly Waiting[] },
  limits: Pick<MigrationSettings, "perCluster" | "perNode">,
): string | undefined {
  const taken: Active[] = [...active];
  const away = (node: string | undefined) => taken.filter((each) => each.node === node).length;
  for (const next of waiting.toSorted(byTurn)) {
    const isMine = next.uid === uid;
    if (isMine && next.node === undefined) return "The machine is still coming from its last migration";
    if (taken.some(({ machine }) => machine === next.machine)) {
      if (isMine) return "Another migration of the machine comes first";
    } else if (taken.length >= limits.perCluster) {
      if (isMine)
        return `Waits for its turn: ${taken.length} migrations of the cluster come first, and the limit is ${limits.perCluster}`;
    } else if (away(next.node) >= limits.perNode) {
      if (isMine)
        return `Waits for its turn: ${away(next.node)} migrations away from node ${next.node} come first, and the limit is ${limits.perNode}`;
    } else if (isMine) return undefined;
    else if (next.node !== undefined) taken.push(next);
  }
  return "It is not known yet";
}

function byTurn(a: Waiting, b: Waiting): number {
  if (RANKS[a.priority] !== RANKS[b.priority]) return RANKS[a.priority] - RANKS[b.priority];
  const ages = Date.parse(a.createdAt) - Date.parse(b.createdAt);
  return ages === 0 || Number.isNaN(ages) ? (a.uid < b.uid ? -1 : 1) : ages;
}
