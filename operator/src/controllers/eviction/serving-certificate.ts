import { type AuthorityState, trustIdOf } from "../../certificates/authority-state.ts";
import { issueCertificate, type KeyPair, renewalTimeMs, validityOf } from "../../certificates/x509.ts";
import type { Clock } from "../../runtime/clock.ts";

export interface ServingCertificateOptions {
  readonly clock: Clock;
  /** As the API server calls the webhook: SERVICE.NAMESPACE.svc. */
  readonly dnsName: string;
  /** Called with each new certificate. */
  readonly onIssued: (pair: KeyPair) => void;
  readonly onError: (error: unknown) => void;
}

const COMMON_NAME = "typevisor-webhook";
const LIFE_MS = 14 * 24 * 3_600_000;
const RETRY_MS = 10_000;

/** A replica's own certificate for the webhook: signed by whichever authority signs, and renewed in time. */
export class ServingCertificate implements Disposable {
  readonly #options: ServingCertificateOptions;
  #state: AuthorityState | undefined;
  #pair: KeyPair | undefined;
  #timer: Disposable | undefined;

  constructor(options: ServingCertificateOptions) {
    this.#options = options;
  }

  /** When it ends, in milliseconds since the epoch; undefined while there is none. */
  get notAfterMs(): number | undefined {
    return this.#pair === undefined ? undefined : validityOf(this.#pair.certificate).notAfterMs;
  }

  /** Takes a new certificate where the authorities are others than before. */
  follow(state: AuthorityState): void {
    const isNew = this.#state === undefined || trustIdOf(this.#state) !== trustIdOf(state);
    this.#state = state;
    if (isNew) void this.#issue(state);
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#state = undefined;
  }

  async #issue(state: AuthorityState): Promise<void> {
    const { clock, dnsName, onIssued, onError } = this.#options;
    const subject = { commonName: COMMON_NAME, dnsNames: [dnsName], usages: ["server"] } as const;
    let againInMs = RETRY_MS;
    try {
      const pair = await issueCertificate(state.current, subject, clock.now(), LIFE_MS);
      if (this.#state !== state) return;
      this.#pair = pair;
      againInMs = renewalTimeMs(validityOf(pair.certificate)) - clock.now();
      onIssued(pair);
    } catch (error) {
      if (this.#state !== state) return;
      onError(error);
    }
    this.#timer?.[Symbol.dispose]();
    this.#timer = clock.after(againInMs, () => {
      if (this.#state === state) void this.#issue(state);
    });
  }
}
