import type { ServerResponse } from "node:http";
import type { ApiError, ApiErrorCode } from "../../api/control.ts";

const statusOf: Readonly<Record<ApiErrorCode, number>> = {
  BadRequest: 400,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  Timeout: 408,
  Conflict: 409,
  NotReady: 409,
  Internal: 500,
};

/** A request that is answered with an error. `status` and `headers` refine what the code alone says. */
export class RequestRefused extends Error {
  readonly code: ApiErrorCode;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  constructor(
    code: ApiErrorCode,
    message: string,
    refine: { status?: number; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message);
    this.name = "RequestRefused";
    this.code = code;
    this.status = refine.status ?? statusOf[code];
    this.headers = refine.headers ?? {};
  }

  get body(): string {
    const body: ApiError = { error: { code: this.code, message: this.message } };
    return `${JSON.stringify(body)}\n`;
  }

  /** The whole answer, for where there is only a socket: closes the connection. */
  get rawResponse(): string {
    const headers = {
      ...this.headers,
      "Content-Type": "application/json",
      "Content-Length": String(Buffer.byteLength(this.body)),
      Connection: "close",
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return `HTTP/1.1 ${this.status} ${this.code}\r\n${lines.join("")}\r\n${this.body}`;
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

export function sendRefusal(response: ServerResponse, refusal: RequestRefused): void {
  response.writeHead(refusal.status, {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(refusal.body),
    ...refusal.headers,
  });
  response.end(refusal.body);
}
