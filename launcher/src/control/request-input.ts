import type { IncomingMessage } from "node:http";
import type { DiskConfig, InterfaceConfig } from "../../api/machine-config.ts";
import { ConfigInvalid } from "../config/field.ts";
import { parseInterfaceConfig } from "../config/interface-config.ts";
import { parseDiskConfig } from "../config/machine-config.ts";
import { RequestRefused } from "./api-error.ts";

const BODY_MAX_BYTES = 4096;
/** Longest delay of a Node timer. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export interface Target {
  readonly path: string;
  readonly query: ReadonlyMap<string, string>;
}

/** Path and query of a request. Throws RequestRefused for what is not a path, or names a parameter twice. */
export function parseTarget(target: string | undefined): Target {
  const url = target?.startsWith("/") ? URL.parse(`http://launcher${target}`) : null;
  if (url === null) throw new RequestRefused("BadRequest", "the request target is not a path");
  const query = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    if (query.has(name)) throw new RequestRefused("BadRequest", `query parameter ${name} is given twice`);
    query.set(name, value);
  }
  return { path: url.pathname, query };
}

export function allowOnly(query: ReadonlyMap<string, string>, known: readonly string[]): void {
  for (const name of query.keys()) {
    if (known.includes(name)) continue;
    const known_ = known.length === 0 ? "it takes none" : `known are ${known.join(", ")}`;
    throw new RequestRefused("BadRequest", `query parameter ${name} is unknown here; ${known_}`);
  }
}

/** A value of the query that must be one of `values`; the first is the default. */
export function choice<Value extends string>(
  query: ReadonlyMap<string, string>,
  name: string,
  values: readonly [Value, ...Value[]],
): Value {
  const given = query.get(name);
  if (given === undefined) return values[0];
  const found = values.find((value) => value === given);
  if (found === undefined) throw new RequestRefused("BadRequest", `${name} must be one of ${values.join(", ")}`);
  return found;
}

export function timeoutFrom(value: unknown, name = "timeoutMs"): number {
  const number = typeof value === "string" && /^\d{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= TIMER_MAX_MS) return number;
  throw new RequestRefused("BadRequest", `${name} must be a whole number of milliseconds from 0 to ${TIMER_MAX_MS}`);
}

/** A disk to be added. Throws RequestRefused. */
export function diskConfigFrom(value: unknown): DiskConfig {
  try {
    return parseDiskConfig(value);
  } catch (error) {
    if (!(error instanceof ConfigInvalid)) throw error;
    throw new RequestRefused("BadRequest", `${error.field === "" ? "the disk" : error.field} ${error.problem}`);
  }
}

/** An interface to be added. Throws RequestRefused. */
export function interfaceConfigFrom(value: unknown): InterfaceConfig {
  try {
    return parseInterfaceConfig(value);
  } catch (error) {
    if (!(error instanceof ConfigInvalid)) throw error;
    throw new RequestRefused("BadRequest", `${error.field === "" ? "the interface" : error.field} ${error.problem}`);
  }
}

const SIZE_MAX_BYTES = 2 ** 50;
const SECTOR_BYTES = 512;

/** The size of a disk. Throws RequestRefused. */
export function diskSizeFrom(value: unknown): number {
  const isSize = typeof value === "number" && value >= SECTOR_BYTES && value <= SIZE_MAX_BYTES;
  if (isSize && value % SECTOR_BYTES === 0) return value;
  throw new RequestRefused(
    "BadRequest",
    `sizeBytes must be a multiple of ${SECTOR_BYTES} from ${SECTOR_BYTES} to ${SIZE_MAX_BYTES}`,
  );
}

const OVERLAY_LIMIT_MIN_BYTES = 2 ** 20;

/** Throws RequestRefused. */
export function overlayLimitFrom(value: unknown): number {
  const isLimit = Number.isInteger(value) && Number(value) >= OVERLAY_LIMIT_MIN_BYTES;
  if (isLimit && Number(value) <= SIZE_MAX_BYTES) return Number(value);
  throw new RequestRefused(
    "BadRequest",
    `bytes must be an integer from ${OVERLAY_LIMIT_MIN_BYTES} to ${SIZE_MAX_BYTES}`,
  );
}

/** The JSON object in a request's body; empty when there is no body. Throws RequestRefused. */
export async function readBody(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let lengthBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    lengthBytes += chunk.length;
    if (lengthBytes > BODY_MAX_BYTES)
      throw new RequestRefused("BadRequest", `the body is longer than ${BODY_MAX_BYTES} bytes`, {
        status: 413,
        headers: { Connection: "close" },
      });
    chunks.push(chunk);
  }
  if (lengthBytes === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString());
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below, for what is JSON but no object too.
  }
  throw new RequestRefused("BadRequest", "the body is not a JSON object");
}

/** Throws RequestRefused when the body has a member that is not in `known`. */
export function allowOnlyMembers(body: Readonly<Record<string, unknown>>, known: readonly string[]): void {
  for (const name of Object.keys(body)) {
    if (!known.includes(name))
      throw new RequestRefused(
        "BadRequest",
        `the body has an unknown member; known are: ${known.join(", ") || "none"}`,
      );
  }
}
