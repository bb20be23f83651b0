import type { MigrationStatus } from "../../../../launcher/api/migration.ts";
import type { Pod } from "../../runtime/wire.ts";
import type { NodeFacts } from "../virtualmachine/observation.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import type { StoredMigration } from "./stored.ts";

/** All that a decision about one migration is made from, besides the settings and the time. */
export interface Observation {
  readonly migration: StoredMigration;
  /** Its object is gone: see abandoned.ts. */
  readonly isAbandoned: boolean;
  readonly vm: StoredVirtualMachine | undefined;
  /** The pod that counts: see launcher-pods.ts. */
  readonly current: Pod | undefined;
  /** The pod that the migration began in, as long as it is there. */
  readonly source: Side | undefined;
  /** The pod that was made for this migration, as long as it is there. */
  readonly target: Side | undefined;
  /** A pod that has the name of the one that is to be made: what is left of an earlier migration, or somebody else's. */
  readonly inTheWay: Pod | undefined;
  /** Name of a pod that another migration of the machine has not settled. */
  readonly ofOther: string | undefined;
  /** Since when the source is known to be gone, in milliseconds since the epoch; what was heard before it may be old. */
  readonly sourceGoneAtMs: number | undefined;
  /** What its turn waits for; undefined once it has come. */
  readonly waitsFor: string | undefined;
  /** When progress was last written by this process, in milliseconds since the epoch. */
  readonly progressWrittenAtMs: number;
  /** All nodes. */
  readonly nodes: readonly NodeFacts[];
  /** What speaks against spec.targetClaims; undefined where nothing does. */
  readonly targetClaimProblem: string | undefined;
  /** Disks on claims that two nodes cannot have, and that spec.targetClaims does not name. */
  readonly disksWithoutTarget: readonly string[];
  /** The API server did not take the target's pod. */
  readonly refusal: PodRefusal | undefined;
}

export interface Side {
  readonly pod: Pod;
  /** Null where the node no longer exists, undefined where the pod has none yet. */
  readonly node: NodeFacts | null | undefined;
  readonly heard: Heard | undefined;
}

/** What a launcher said of its migration when it was last asked. */
export interface Heard {
  /** Its last answer; undefined when there was none. */
  readonly status: MigrationStatus | undefined;
  /** Why it did not answer the last time. */
  readonly error: string | undefined;
  /** When it was last asked with an answer, in milliseconds since the epoch. */
  readonly answeredAtMs: number;
}

export interface PodRefusal {
  readonly message: string;
  readonly atMs: number;
  /** Attempts in a row. */
  readonly count: number;
}
