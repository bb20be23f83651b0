import { setTimeout as delay } from "node:timers/promises";
import {
  AGENT_LINE_MAX_BYTES,
  AGENT_PROTOCOL_VERSION,
  type AgentAnswer,
  type AgentErrorCode,
  type AgentOffer,
  type AgentRequest,
  type AgentWant,
  ATTACHMENT_FDS_MAX,
  type TapGrant,
} from "../../api/agent.ts";
import { errorCode, errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { connectUnix, DescriptorsLost, recvFds, sendFds, setSocketTimeout } from "../sys/unix-socket.ts";

const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 1_000;
/** A single exchange takes well under a millisecond; opening a block device may take longer. */
const EXCHANGE_TIMEOUT_MS = 10_000;

/** The node agent does not answer, or not in its protocol. The message says what to check. */
export class AgentUnavailable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AgentUnavailable";
  }
}

/** The node agent answered, and refused. */
export class AgentRefused extends Error {
  readonly code: AgentErrorCode;
  readonly item: number | undefined;
  constructor(code: AgentErrorCode, message: string, item: number | undefined) {
    super(`the node agent refused (${code}): ${message}`);
    this.name = "AgentRefused";
    this.code = code;
    this.item = item;
  }
}

export interface AskOptions {
  readonly socketPath: string;
  /** How long an agent that is away, as while it restarts, is waited for. */
  readonly deadlineMs: number;
  readonly log: Logger;
  /** For a single exchange. Blocks the event loop: short where a guest runs. */
  readonly exchangeTimeoutMs?: number;
  /** Ends the wait; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What the agent gave for one item: one descriptor, or those of a TAP. */
export interface Granted {
  readonly fds: readonly OwnedFd[];
  readonly tap?: TapGrant;
}

/**
 * What was granted for each item of `want`, in order. Tries again while the agent is away.
 * Throws AgentUnavailable, AgentRefused, or the signal's reason; no descriptor is left open then.
 */
export async function askAgent(want: readonly AgentWant[], options: AskOptions): Promise<readonly Granted[]> {
  const giveUpAt = performance.now() + options.deadlineMs;
  for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)) {
    options.signal?.throwIfAborted();
    try {
      return exchange(options, want);
    } catch (error) {
      if (!isPassing(error)) throw explained(error, options.socketPath);
      if (performance.now() + retryMs > giveUpAt) throw gaveUp(error, options);
      options.log.debug("node agent is away, trying again", { reason: "AgentAway", error: errorText(error), retryMs });
    }
    // An aborted wait ends early; the next turn throws the signal's own reason.
    await delay(retryMs, undefined, options.signal === undefined ? {} : { signal: options.signal }).catch(() => {});
  }
}

/**
 * Offers `fds` to the pod `podUid`, once: the offer holds until the connection that it answers with is closed, by either
 * side. Blocks. Throws AgentUnavailable, AgentRefused, and AgentAway where it is worth to try again.
 */
export function offerToPod(podUid: string, fds: readonly OwnedFd[], socketPath: string): OwnedFd {
  const offer: AgentOffer = {
    version: AGENT_PROTOCOL_VERSION,
    offer: { podUid, fds: fds.map(({ fd }) => fd) },
  };
  try {
    using cleanup = new DisposableStack();
    const socket = cleanup.use(connectUnix(socketPath));
    setSocketTimeout(socket.fd, EXCHANGE_TIMEOUT_MS);
    sendLine(socket.fd, offer);
    accepted(parseAnswer(readLine(socket.fd, 0, () => {})));
    cleanup.move();
    return socket;
  } catch (error) {
    if (isPassing(error)) throw new AgentAway(errorText(error), { cause: error });
    throw explained(error, socketPath);
  }
}

/** The agent is not there now, as while it restarts. */
export class AgentAway extends Error {}

/** The agent went away in the middle of an exchange. */
class AgentClosed extends Error {}

/** True for what a restart of the agent looks like from here. */
function isPassing(error: unknown): boolean {
  if (error instanceof AgentClosed) return true;
  return ["ECONNREFUSED", "ENOENT", "ECONNRESET", "EPIPE", "EAGAIN"].includes(errorCode(error) ?? "");
}

function gaveUp(error: unknown, { socketPath, deadlineMs }: AskOptions): AgentUnavailable {
  const missing = errorCode(error) === "ENOENT";
  const check = missing
    ? "check that the pod requests devices.typevisor.io/kvm and that the node agent runs on this node"
    : "check that the node agent runs on this node, and its log";
  return new AgentUnavailable(
    `the node agent did not answer at ${socketPath} for ${deadlineMs} ms (${errorText(error)}); ${check}`,
    { cause: error },
  );
}

function explained(error: unknown, socketPath: string): unknown {
  if (error instanceof AgentRefused || error instanceof AgentUnavailable) return error;
  if (error instanceof DescriptorsLost)
    return new AgentUnavailable(
      `${error.message}; on a node with SELinux check that policy lets containers use the agent's descriptors (fd use)`,
      { cause: error },
    );
  const denied = errorCode(error) === "EACCES" || errorCode(error) === "EPERM";
  const check = denied
    ? "check the socket's mode and, on a node with SELinux, its label and the connectto rule"
    : "check the node agent's log";
  return new AgentUnavailable(`the node agent cannot be asked at ${socketPath} (${errorText(error)}); ${check}`, {
    cause: error,
  });
}

/** Asks once. Blocks: before the guest runs there is nothing else to do, and it saves the event loop's turns. */
function exchange(
  { socketPath, exchangeTimeoutMs = EXCHANGE_TIMEOUT_MS }: AskOptions,
  want: readonly AgentWant[],
): readonly Granted[] {
  using socket = connectUnix(socketPath);
  setSocketTimeout(socket.fd, exchangeTimeoutMs);
  sendLine(socket.fd, { version: AGENT_PROTOCOL_VERSION, want });
  using cleanup = new DisposableStack();
  const fds: OwnedFd[] = [];
  const answer = accepted(parseAnswer(readLine(socket.fd, mostFds(want), (fd) => fds.push(cleanup.use(fd)))));
  const granted = shareOut(want, fds, answer.taps ?? []);
  cleanup.move();
  return granted;
}

/** Which descriptors belong to which item. */
function shareOut(want: readonly AgentWant[], fds: readonly OwnedFd[], taps: readonly TapGrant[]): readonly Granted[] {
  let at = 0;
  let tapsSeen = 0;
  const granted = want.map((item): Granted => {
    const tap = item.kind === "tap" ? tapGrant(item.name, taps[tapsSeen++]) : undefined;
    const count = tap ? tapFds(tap, item) : item.kind === "attachment" ? attachmentFds(fds.length - at) : 1;
    const own = fds.slice(at, at + count);
    at += count;
    return { fds: own, ...(tap && { tap }) };
  });
  if (fds.length !== at)
    throw new AgentUnavailable(`the node agent sent ${fds.length} descriptors where ${at} were due; update it`);
  return granted;
}

function sendLine(socketFd: number, request: AgentRequest | AgentOffer): void {
  const line = Buffer.from(`${JSON.stringify(request)}\n`);
  if (line.length > AGENT_LINE_MAX_BYTES) throw new RangeError("the request to the node agent is too long");
  for (let sent = 0; sent < line.length; ) sent += sendFds(socketFd, line.subarray(sent), []);
}

function accepted(answer: AgentAnswer): AgentAnswer & { readonly ok: true } {
  if (!answer.ok) throw new AgentRefused(answer.error.code, answer.error.message, answer.error.item);
  return answer;
}

function mostFds(want: readonly AgentWant[]): number {
  return want.reduce((sum, item) => {
    if (item.kind === "tap") return sum + 2 * item.queues + 1;
    return sum + (item.kind === "attachment" ? ATTACHMENT_FDS_MAX : 1);
  }, 0);
}

/** Where an attachment is asked for, it is the last item. */
function attachmentFds(leftCount: number): number {
  return Math.max(1, Math.min(leftCount, ATTACHMENT_FDS_MAX));
}

function tapFds({ vhost }: TapGrant, item: AgentWant): number {
  const queues = item.kind === "tap" ? item.queues : 0;
  return vhost ? 2 * queues + 1 : queues;
}

const DEVICE_NAME = /^[A-Za-z0-9][-_.A-Za-z0-9]{0,14}$/;
const MTU = { min: 68, max: 65535 };

function tapGrant(name: string, grant: TapGrant | undefined): TapGrant {
  const isSound =
    grant?.name === name &&
    DEVICE_NAME.test(grant.device) &&
    typeof grant.vhost === "boolean" &&
    Number.isInteger(grant.mtuBytes) &&
    grant.mtuBytes >= MTU.min &&
    grant.mtuBytes <= MTU.max;
  if (!grant || !isSound) throw new AgentUnavailable(`the node agent's grant of TAP ${name} is not sound; update it`);
  return grant;
}

function readLine(socketFd: number, maxFds: number, onFd: (fd: OwnedFd) => void): string {
  const buffer = new Uint8Array(new ArrayBuffer(AGENT_LINE_MAX_BYTES));
  for (let length = 0; length < buffer.length; ) {
    const { lengthBytes, fds } = recvFds(socketFd, buffer.subarray(length), maxFds);
    for (const fd of fds) onFd(fd);
    if (lengthBytes === 0) throw new AgentClosed("the node agent closed the connection");
    length += lengthBytes;
    if (buffer[length - 1] === NEWLINE) return Buffer.from(buffer.buffer, 0, length - 1).toString();
  }
  throw new AgentUnavailable(`the node agent's answer is longer than ${AGENT_LINE_MAX_BYTES} bytes`);
}

const NEWLINE = 10;

function parseAnswer(line: string): AgentAnswer {
  let answer: Partial<AgentAnswer> | null = null;
  try {
    answer = JSON.parse(line) as Partial<AgentAnswer> | null;
  } catch {
    // Said below.
  }
  if (answer?.ok === true && answer.version === AGENT_PROTOCOL_VERSION) return answer as AgentAnswer;
  if (answer?.ok === false && typeof answer.error?.message === "string") return answer as AgentAnswer;
  throw new AgentUnavailable(
    "the node agent's answer is not of the protocol that this launcher speaks; update whichever is older",
  );
}
