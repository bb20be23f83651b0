import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** How a server answers one request; `from` is where the range begins that was asked for, 0 without one. */
export type Answer = (request: IncomingMessage, response: ServerResponse, from: number) => void;

/** A server of one file whose answers are given one after another; the last one is given again and again. */
export class OddServer implements AsyncDisposable {
  readonly requests: { readonly url: string; readonly headers: IncomingMessage["headers"] }[] = [];
  readonly #server: Server;

  private constructor(answers: readonly Answer[]) {
    this.#server = createServer((request, response) => {
      const answer = answers[Math.min(this.requests.length, answers.length - 1)];
      this.requests.push({ url: request.url ?? "", headers: request.headers });
      answer?.(request, response, Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0));
    });
  }

  static async start(...answers: readonly Answer[]): Promise<OddServer> {
    const odd = new OddServer(answers);
    odd.#server.listen(0, "127.0.0.1");
    await once(odd.#server, "listening");
    return odd;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/disk.img`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export interface Serving {
  readonly etag?: string;
  /** Closes the connection after so many bytes of each answer. */
  readonly breakAfter?: number;
  /** Says nothing more after so many bytes. */
  readonly hangAfter?: number;
  readonly ignoresRanges?: boolean;
  /** Says this length rather than the file's. */
  readonly length?: number;
}

/** Serves `file` well, but for what `serving` says. */
export function serve(file: Uint8Array, serving: Serving = {}): Answer {
  const { etag = '"v1"', ignoresRanges = false, length = file.length } = serving;
  return (_request, response, askedFrom) => {
    const from = ignoresRanges ? 0 : askedFrom;
    const headers = { ...(etag === "" ? {} : { ETag: etag }), "Content-Length": length - from };
    if (from > 0 && from >= file.length && length === file.length) {
      response.writeHead(416).end();
      return;
    }
    if (from > 0) response.writeHead(206, { ...headers, "Content-Range": `bytes ${from}-${length - 1}/${length}` });
    else response.writeHead(200, headers);
    response.flushHeaders();
    const body = file.subarray(from);
    const cut = serving.breakAfter ?? serving.hangAfter;
    if (cut === undefined && length === file.length) response.end(body);
    else
      response.write(body.subarray(0, cut ?? body.length), () => {
        if (serving.hangAfter === undefined) response.destroy();
      });
  };
}

export function status(code: number, headers: Readonly<Record<string, string>> = {}): Answer {
  return (_request, response) => response.writeHead(code, headers).end();
}
