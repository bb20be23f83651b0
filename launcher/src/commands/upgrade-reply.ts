const ANSWER_MAX_BYTES = 256 * 1024;
const HEADER_END = "\r\n\r\n";

/** The answer to a request to upgrade, as its bytes come in. */
export class UpgradeReply {
  #bytes: Buffer = Buffer.alloc(0);

  /** Undefined until the upgrade is complete; then the bytes that follow its header. */
  take(bytes: Buffer): Buffer | undefined {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    const end = this.#bytes.indexOf(HEADER_END);
    return end >= 0 && this.#status === 101 ? this.#bytes.subarray(end + HEADER_END.length) : undefined;
  }

  /** True once there is more of it than an answer of the launcher has. */
  get tooLong(): boolean {
    return this.#bytes.length > ANSWER_MAX_BYTES;
  }

  /** Why there was no upgrade, once the connection has ended. */
  get refusal(): string {
    if (this.tooLong) return "the launcher's answer is too long";
    const text = this.#bytes.toString();
    try {
      const message: unknown = JSON.parse(text.slice(text.indexOf(HEADER_END))).error.message;
      if (typeof message === "string") return message;
    } catch {
      // Not the launcher's own error: said below.
    }
    return this.#status === undefined
      ? "the launcher closed the connection without an answer"
      : `the launcher answered with HTTP status ${this.#status}`;
  }

  get #status(): number | undefined {
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(this.#bytes.toString("latin1", 0, 16))?.[1];
    return status === undefined ? undefined : Number(status);
  }
}
