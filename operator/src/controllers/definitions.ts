import { type FieldSchema, fieldPaths } from "../../../crds/src/field-paths.ts";
import { knownFields } from "../../../crds/src/known-fields.ts";
import { GROUP_VERSION } from "../../../crds/src/names.ts";
import type { Client } from "../runtime/client.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { ApiError, messageOf } from "../runtime/errors.ts";
import type { Logger } from "../runtime/logger.ts";
import { operatorVersion } from "../version.ts";

const LOOK_AGAIN_MS = 5_000;
/** Of what the definitions lack, as many are named: who reads it needs no more to know that they are old. */
const NAMED = 5;

export interface DefinitionsOptions {
  readonly client: Pick<Client, "openApi">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What an API server publishes of a group. */
export interface OpenApi {
  readonly components?: { readonly schemas?: Readonly<Record<string, PublishedKind>> };
}

type PublishedKind = FieldSchema & {
  readonly "x-kubernetes-group-version-kind"?: readonly { readonly kind: string }[];
};

/** Fields and words, each with its kind before it, that one side has and the other has not. */
export interface Differences {
  /** The operator would write them, and the API server refuses the whole status. */
  readonly lacking: readonly string[];
  /** What users may write, and the operator does not look at. */
  readonly unknown: readonly string[];
}

/**
 * Whether the cluster's CustomResourceDefinitions have all that this operator writes and reads. Where they were left
 * behind by an upgrade, an operator that worked would start machines and could not say so in any status: it waits
 * instead, neither ready nor leading, and the one before it goes on.
 */
export class Definitions {
  readonly #options: DefinitionsOptions;
  #problem: string | undefined = "what the cluster's definitions have is not known yet";

  constructor(options: DefinitionsOptions) {
    this.#options = options;
  }

  /** Why this operator cannot work with them, as a clause. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Looks until they fit; false where `signal` was aborted before. */
  async fit(signal: AbortSignal): Promise<boolean> {
    const { clock, logger } = this.#options;
    for (let said: string | undefined; !signal.aborted; await sleep(clock, LOOK_AGAIN_MS, signal)) {
      this.#problem = await this.#look();
      if (this.#problem === undefined) return true;
      if (this.#problem !== said)
        logger.error({ problem: this.#problem }, "Can not work with the cluster's definitions");
      said = this.#problem;
    }
    return false;
  }

  async #look(): Promise<string | undefined> {
    try {
      const { lacking, unknown } = differences(await this.#options.client.openApi<OpenApi>(GROUP_VERSION));
      if (lacking.length > 0) return tooOld(lacking);
      if (unknown.length > 0)
        this.#options.logger.warn({ unknown }, "The cluster's definitions are newer than this operator");
      return undefined;
    } catch (error) {
      if (error instanceof ApiError && error.isNotFound)
        return `the cluster has no definitions of ${GROUP_VERSION}; ${REMEDY}`;
      if (error instanceof ApiError && error.isForbidden) {
        this.#options.logger.warn({ err: messageOf(error) }, "Can not see whether the cluster's definitions fit");
        return undefined;
      }
      return `the cluster's definitions cannot be read: ${messageOf(error)}`;
    }
  }
}

const REMEDY = `apply those of version ${operatorVersion}: upgrade the release with crds.install, or kubectl apply --server-side -f crds/`;

function tooOld(lacking: readonly string[]): string {
  const named = lacking.slice(0, NAMED).join(", ");
  const more = lacking.length > NAMED ? `, and ${lacking.length - NAMED} more` : "";
  return `the cluster's definitions are older than this operator: they lack ${named}${more}; ${REMEDY}`;
}

export function differences({ components }: OpenApi, own = knownFields): Differences {
  const published = new Map(
    Object.values(components?.schemas ?? {}).flatMap((schema) =>
      (schema["x-kubernetes-group-version-kind"] ?? []).map(({ kind }) => [kind, new Set(fieldPaths(schema))] as const),
    ),
  );
  const compared = Object.entries(own).map(([kind, paths]) => {
    const theirs = published.get(kind);
    if (theirs === undefined) return { lacking: [kind], unknown: [] };
    const known = new Set(paths);
    return {
      lacking: paths.filter((path) => !theirs.has(path)).map((path) => `${kind} ${path}`),
      unknown: [...theirs].filter((path) => !known.has(path)).map((path) => `${kind} ${path}`),
    };
  });
  return {
    lacking: compared.flatMap(({ lacking }) => lacking),
    unknown: compared.flatMap(({ unknown }) => unknown),
  };
}
