import http, { type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import https from "node:https";
import type { ImportReason } from "../../api/import.ts";
import { errorCode, errorText } from "../log/error-text.ts";
import { launcherVersion } from "../version.ts";
import { release } from "./byte-stream.ts";
import { ImportError } from "./import-error.ts";

export interface HttpRequest {
  readonly url: URL;
  /** Sent to the server that `url` names, and to no other that it redirects to. */
  readonly headers: OutgoingHttpHeaders;
  /** PEM; the well-known authorities when absent. */
  readonly authorities?: readonly string[];
  readonly limits: HttpLimits;
  readonly signal?: AbortSignal;
}

export interface HttpLimits {
  /** From the start of a request to the answer's headers. */
  readonly headersMs: number;
  readonly redirects: number;
}

/** What may pass by itself. The message is the end of a sentence that begins with "the server". */
export class HttpFailure extends Error {
  readonly reason: Extract<ImportReason, "SourceUnreachable" | "SourceRefused">;
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: ErrorOptions & { readonly reason?: HttpFailure["reason"]; readonly retryAfterMs?: number } = {},
  ) {
    super(message, options);
    this.name = "HttpFailure";
    this.reason = options.reason ?? "SourceUnreachable";
    this.retryAfterMs = options.retryAfterMs;
  }
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** Answers that another attempt may not get. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** The answer (200 or 206) to a GET, redirects followed. Throws HttpFailure, ImportError or the signal's reason. */
export async function requestFollowing(request: HttpRequest, more: OutgoingHttpHeaders): Promise<IncomingMessage> {
  let { url } = request;
  for (let redirects = 0; ; redirects++) {
    const own = url.origin === request.url.origin ? request.headers : {};
    const response = await getOnce(url, { ...own, ...more }, request);
    const status = response.statusCode ?? 0;
    if (!REDIRECTS.has(status)) return checkStatus(response, url);
    response.destroy();
    if (redirects === request.limits.redirects)
      throw new ImportError(
        "SourceRefused",
        `the server redirects more than ${redirects} times, last to ${shown(url)}`,
      );
    url = redirectTarget(url, response.headers);
  }
}

function redirectTarget(from: URL, { location }: IncomingHttpHeaders): URL {
  const to = URL.parse(location ?? "", from);
  if (to === null || (to.protocol !== "http:" && to.protocol !== "https:"))
    throw new ImportError("SourceRefused", `the server redirects to "${location ?? ""}", which is no HTTP address`);
  if (from.protocol === "https:" && to.protocol === "http:")
    throw new ImportError("SourceRefused", `the server redirects from HTTPS to plain HTTP (${shown(to)})`);
  return to;
}

function checkStatus(response: IncomingMessage, url: URL): IncomingMessage {
  const status = response.statusCode ?? 0;
  if (status === 200 || status === 206) return response;
  response.destroy();
  const answer = `answers ${status} ${response.statusMessage ?? ""}`.trim();
  if (PASSING.has(status)) {
    const seconds = Number(response.headers["retry-after"]);
    const retryAfter = Number.isFinite(seconds) && seconds > 0 ? { retryAfterMs: seconds * 1000 } : {};
    throw new HttpFailure(answer, { reason: "SourceRefused", ...retryAfter });
  }
  if (status === 416)
    throw new ImportError("SourceChanged", `the server ${answer}: the file is shorter than it was at first`);
  const wayOut = status === 401 || status === 403 ? "check the credentials" : "check the URL";
  throw new ImportError("SourceRefused", `the server ${answer} for ${shown(url)}; ${wayOut}`);
}

/** Errors of TLS that no second attempt gets rid of. */
const UNTRUSTED = /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT_|ERR_SSL_)/;

async function getOnce(url: URL, headers: OutgoingHttpHeaders, request: HttpRequest): Promise<IncomingMessage> {
  const { limits, signal, authorities } = request;
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const take = (response: IncomingMessage) => {
    // Who reads it sees its errors; who does not any more, need not.
    response.on("error", () => undefined);
    resolve(response);
  };
  const options = {
    // No reuse: a connection is good for the whole file, or broken.
    agent: false,
    headers: {
      "User-Agent": `typevisor/${launcherVersion}`,
      Accept: "*/*",
      "Accept-Encoding": "identity",
      Connection: "close",
      ...headers,
    },
    ...(signal === undefined ? {} : { signal }),
    ...(authorities === undefined ? {} : { ca: [...authorities] }),
  };
  const sent = (url.protocol === "https:" ? https : http).request(url, options, take);
  const timer = setTimeout(
    () => sent.destroy(new HttpFailure(`did not answer within ${limits.headersMs / 1000} s`)),
    limits.headersMs,
  );
  sent.on("error", reject);
  // Node's parser copies the body out of what the socket read. It has done so by then: its listener came first.
  sent.on("socket", (socket) => socket.on("data", release));
  sent.end();
  try {
    return await promise;
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof HttpFailure) throw error;
    if (UNTRUSTED.test(errorCode(error) ?? ""))
      throw new ImportError(
        "SourceUnreachable",
        `the certificate of ${url.host} is not trusted (${errorText(error)}); name its authority`,
        { cause: error },
      );
    throw new HttpFailure(`at ${url.host} cannot be reached (${errorText(error)})`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Without what may be secret: user, password and query. */
export function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}
