/** metav1.Status as far as it is used here. */
export interface ApiStatus {
  readonly kind?: "Status";
  readonly status?: string;
  readonly message?: string;
  readonly reason?: string;
  readonly code?: number;
  readonly details?: {
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly reason?: string; readonly message?: string; readonly field?: string }[];
  };
}

/** The API server answered with a failure. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly statusCode: number;
  readonly status: ApiStatus;
  readonly request: string;

  constructor(statusCode: number, status: ApiStatus, request: string) {
    super(`${request}: ${statusCode} ${status.reason ?? ""} ${status.message ?? ""}`.replaceAll(/\s+/g, " ").trim());
    this.statusCode = statusCode;
    this.status = status;
    this.request = request;
  }

  get isNotFound(): boolean {
    return this.statusCode === 404;
  }
  /** A write lost against another one, or its precondition (UID, resourceVersion) no longer holds. */
  get isConflict(): boolean {
    return this.statusCode === 409 && !this.isAlreadyExists;
  }
  get isAlreadyExists(): boolean {
    return this.statusCode === 409 && this.status.reason === "AlreadyExists";
  }
  /** The resourceVersion or continue token is too old: list again. */
  get isExpired(): boolean {
    return this.statusCode === 410 || this.status.reason === "Expired" || this.status.reason === "Gone";
  }
  get isForbidden(): boolean {
    return this.statusCode === 403;
  }
  get isInvalid(): boolean {
    return this.statusCode === 422;
  }
  get isTooManyRequests(): boolean {
    return this.statusCode === 429;
  }
  /** What the server asks to wait before the next try, in milliseconds. */
  get retryAfterMs(): number | undefined {
    const seconds = this.status.details?.retryAfterSeconds;
    return seconds === undefined ? undefined : seconds * 1000;
  }
}

/** No answer came: refused, reset, timed out, or not HTTP. */
export class TransportError extends Error {
  override readonly name = "TransportError";
  readonly request: string;

  constructor(request: string, cause: unknown) {
    super(`${request}: ${messageOf(cause)}`, { cause });
    this.request = request;
  }
}

/** A sentence from anything that was thrown. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.message === "") {
    return thrown.errors.map(messageOf).join("; ");
  }
  return thrown instanceof Error ? thrown.message : String(thrown);
}
