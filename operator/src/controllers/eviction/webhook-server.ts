import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { KeyPair } from "../../certificates/x509.ts";
import { messageOf } from "../../runtime/errors.ts";
import type { Logger } from "../../runtime/logger.ts";
import { type EvictionAnswer, type EvictionRequest, parseReview, reviewOf } from "./admission-review.ts";

export interface WebhookServerOptions {
  readonly answer: (request: EvictionRequest) => Promise<EvictionAnswer>;
  readonly mayAsk: (path: string) => boolean;
  readonly logger: Logger;
}

/** Reviews of evictions are some KiB. */
const BODY_MAX_BYTES = 256 * 1024;
/** Above the patience that the chart gives the API server. */
const REQUEST_TIMEOUT_MS = 15_000;

/** Serves AdmissionReviews over TLS. What is wrong with a request is its own end, and says nothing about pods. */
export class WebhookServer implements AsyncDisposable {
  readonly #options: WebhookServerOptions;
  readonly #server: Server;

  /** Until `use` has given a certificate, handshakes fail. */
  constructor(options: WebhookServerOptions) {
    this.#options = options;
    const limits = {
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
      minVersion: "TLSv1.2",
    } as const;
    this.#server = createServer(limits, (request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        options.logger.warn({ err: messageOf(error) }, "A request of the webhook failed");
        end(response, 500, "failed");
      });
    });
  }

  /** On all addresses; 0 takes a free port. Resolves to the port. */
  async listen(port: number): Promise<number> {
    this.#server.listen(port);
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  /** New connections get this certificate. */
  use({ certificate, key }: KeyPair): void {
    this.#server.setSecureContext({ cert: certificate, key });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeIdleConnections();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (!this.#options.mayAsk(path)) return end(response, 404, "not found");
    if (request.method !== "POST") return end(response, 405, "only POST");
    const body = await bodyOf(request);
    if (body === undefined) return end(response, 413, "too large");
    const review = parseReview(body);
    if (review === undefined) return end(response, 400, "not an AdmissionReview of an eviction");
    const answer = await this.#options.answer(review);
    end(response, 200, JSON.stringify(reviewOf(review.uid, answer)), "application/json");
  }
}

/** Undefined where there is too much of it. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > BODY_MAX_BYTES) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function end(response: ServerResponse, status: number, body: string, type = "text/plain; charset=utf-8"): void {
  if (response.headersSent || response.destroyed) return;
  // What is left of a request that was refused is not read.
  const close = status === 200 ? {} : { Connection: "close" };
  response.writeHead(status, { "Content-Type": type, ...close }).end(body);
}
