import {
  AGENT_PROTOCOL_VERSION,
  type AgentOffer,
  type AgentWant,
  ATTACHMENT_FDS_MAX,
  POD_UID_PATTERN,
} from "../../../../launcher/api/agent.ts";
import { AgentFailure } from "./agent-failure.ts";
import { parseTap, refuseConflicts } from "./network/tap-request.ts";
import { isObject, onlyFields } from "./request-fields.ts";

const MAX_WANTS = 16;
const PATH_MAX_BYTES = 4095;

export type ParsedRequest = { readonly want: readonly AgentWant[] } | Pick<AgentOffer, "offer">;

/** Reads one line of the agent protocol, which may hold anything. Throws AgentFailure. */
export function parseRequest(line: string): ParsedRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    throw new AgentFailure("BadRequest", "the request is not JSON");
  }
  if (!isObject(request)) throw new AgentFailure("BadRequest", "the request is not an object");
  if (request["version"] !== AGENT_PROTOCOL_VERSION)
    throw new AgentFailure("UnsupportedVersion", `this agent speaks version ${AGENT_PROTOCOL_VERSION} only`);
  if (request["offer"] !== undefined) {
    onlyFields(request, ["version", "offer"]);
    return { offer: parseOffer(request["offer"]) };
  }
  onlyFields(request, ["version", "want"]);
  const { want } = request;
  if (!Array.isArray(want) || want.length > MAX_WANTS)
    throw new AgentFailure("BadRequest", `want must be a list of at most ${MAX_WANTS} items`);
  const parsed = want.map((item: unknown, index) => {
    try {
      return parseWant(item);
    } catch (error) {
      throw error instanceof AgentFailure ? error.at(index) : error;
    }
  });
  refuseConflicts(parsed);
  return { want: parsed };
}

function parseOffer(offer: unknown): AgentOffer["offer"] {
  if (!isObject(offer)) throw new AgentFailure("BadRequest", "offer is not an object");
  onlyFields(offer, ["podUid", "fds"]);
  const podUid = podUidIn(offer);
  const { fds } = offer;
  if (!Array.isArray(fds) || fds.length < 1 || fds.length > ATTACHMENT_FDS_MAX || !fds.every(isDescriptor))
    throw new AgentFailure("BadRequest", `fds must be 1 to ${ATTACHMENT_FDS_MAX} numbers of descriptors`);
  return { podUid, fds };
}

function isDescriptor(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 31;
}

function podUidIn(item: Readonly<Record<string, unknown>>): string {
  const { podUid } = item;
  if (typeof podUid === "string" && POD_UID_PATTERN.test(podUid)) return podUid;
  throw new AgentFailure("BadRequest", "podUid must be the UID of a pod");
}

function parseWant(item: unknown): AgentWant {
  if (!isObject(item)) throw new AgentFailure("BadRequest", "an item of want is not an object");
  switch (item["kind"]) {
    case "kvm":
    case "userfaultfd":
      onlyFields(item, ["kind"]);
      return { kind: item["kind"] };
    case "block": {
      onlyFields(item, ["kind", "path", "readOnly", "direct", "exclusive"]);
      const { path, readOnly, direct, exclusive = false } = item;
      if (typeof path !== "string" || !path.startsWith("/") || path.includes("\0") || path.length > PATH_MAX_BYTES)
        throw new AgentFailure("BadRequest", "path must be an absolute path");
      if (typeof readOnly !== "boolean" || typeof direct !== "boolean" || typeof exclusive !== "boolean")
        throw new AgentFailure("BadRequest", "readOnly, direct and exclusive must be true or false");
      return { kind: "block", path, readOnly, direct, ...(exclusive && { exclusive }) };
    }
    case "attachment":
      onlyFields(item, ["kind", "podUid"]);
      return { kind: "attachment", podUid: podUidIn(item) };
    case "tap":
      return parseTap(item);
    default:
      throw new AgentFailure("BadRequest", "kind must be kvm, userfaultfd, block, attachment or tap");
  }
}
