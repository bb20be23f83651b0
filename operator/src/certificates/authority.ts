import type { Client } from "../runtime/client.ts";
import type { Clock } from "../runtime/clock.ts";
import { messageOf } from "../runtime/errors.ts";
import type { Logger } from "../runtime/logger.ts";
import { resources, type Secret } from "../runtime/wire.ts";
import { type AuthorityState, rotateAuthority, trustBundle, trustIdOf } from "./authority-state.ts";
import { machineCommonName, machineServerName, OPERATOR_COMMON_NAME } from "./identities.ts";
import type { CertificateExpiry } from "./metrics.ts";
import { issueCertificate, type KeyPair, renewalTimeMs, validityOf } from "./x509.ts";

export interface AuthorityOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The operator's own namespace. */
  readonly namespace: string;
  readonly secretName: string;
  /** Called when machines need new certificates. */
  readonly onTrustChange: () => void;
}

/** What a machine's Secret holds for TLS. */
export interface MachineCertificate extends KeyPair {
  readonly trust: string;
  readonly trustId: string;
  readonly renewAtMs: number;
}

/** TLS credentials of a client. */
export interface ClientCredentials extends KeyPair {
  readonly trust: string;
}

const FIELD_MANAGER = "typevisor-certificates";
const MACHINE_LIFE_MS = 30 * 24 * 3_600_000;
const OPERATOR_LIFE_MS = 7 * 24 * 3_600_000;
const CHECK_PERIOD_MS = 3_600_000;
const CHECK_RETRY_MS = 10_000;

/** The Secret of the authority does not hold one. */
export class AuthoritySecretError extends Error {
  override readonly name = "AuthoritySecretError";
  readonly secret: string;

  constructor(secret: string, problem: string) {
    super(
      `Secret ${secret} ${problem}; restore it, or delete it to have a new authority made (machines get new certificates without a restart)`,
    );
    this.secret = secret;
  }
}

/** Issues the certificates of machines and of the operator, by an authority kept in a Secret. Used by the leader only. */
export class Authority implements Disposable {
  readonly #options: AuthorityOptions;
  #state: AuthorityState | undefined;
  #operator:
    | { readonly credentials: ClientCredentials; readonly trustId: string; readonly renewAtMs: number }
    | undefined;
  #timer: Disposable | undefined;

  constructor(options: AuthorityOptions) {
    this.#options = options;
  }

  /** Loads or makes the authority, and keeps it up to date from then on. */
  async start(): Promise<void> {
    await this.#check();
    this.#schedule(this.#nextCheckMs());
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  /** Which authorities are trusted now. */
  get trustId(): string {
    return trustIdOf(this.#require());
  }

  /** When the certificates of authority and operator end, for metrics. */
  get expiry(): CertificateExpiry {
    const notAfterMs = (pair: KeyPair | undefined) =>
      pair === undefined ? undefined : validityOf(pair.certificate).notAfterMs;
    return { authorityMs: notAfterMs(this.#state?.current), operatorMs: notAfterMs(this.#operator?.credentials) };
  }

  /** A certificate for one machine, by its UID: of its launcher's server, and of both ends of a migration. */
  async issueForMachine(uid: string): Promise<MachineCertificate> {
    const state = this.#require();
    const subject = {
      commonName: machineCommonName(uid),
      dnsNames: [machineServerName(uid)],
      usages: ["server", "client"],
    } as const;
    const pair = await issueCertificate(state.current, subject, this.#options.clock.now(), MACHINE_LIFE_MS);
    const renewAtMs = renewalTimeMs(validityOf(pair.certificate));
    return { ...pair, trust: trustBundle(state), trustId: trustIdOf(state), renewAtMs };
  }

  /** The operator's own client certificate. */
  async operatorCredentials(): Promise<ClientCredentials> {
    const state = this.#require();
    const trustId = trustIdOf(state);
    const nowMs = this.#options.clock.now();
    if (this.#operator?.trustId !== trustId || nowMs >= this.#operator.renewAtMs) {
      const subject = { commonName: OPERATOR_COMMON_NAME, dnsNames: [], usages: ["client"] } as const;
      const pair = await issueCertificate(state.current, subject, nowMs, OPERATOR_LIFE_MS);
      const renewAtMs = renewalTimeMs(validityOf(pair.certificate));
      this.#operator = { credentials: { ...pair, trust: trustBundle(state) }, trustId, renewAtMs };
    }
    return this.#operator.credentials;
  }

  #require(): AuthorityState {
    if (this.#state === undefined) {
      throw new Error("the certificate authority is not started");
    }
    return this.#state;
  }

  /** At once when the one that signs ends: an operator that was away may come back hours before that. */
  #nextCheckMs(): number {
    const leftMs = (this.expiry.authorityMs ?? 0) - this.#options.clock.now();
    return Math.max(0, Math.min(CHECK_PERIOD_MS, leftMs));
  }

  #schedule(delayMs: number): void {
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.#check().then(
        () => this.#schedule(this.#nextCheckMs()),
        (error: unknown) => {
          this.#options.logger.warn(
            { err: messageOf(error) },
            "Could not check the certificate authority; tries again",
          );
          this.#schedule(CHECK_RETRY_MS);
        },
      );
    });
  }

  async #check(): Promise<void> {
    const { clock, logger, namespace, secretName, onTrustChange } = this.#options;
    const secret = await this.#read();
    const stored = secret === undefined ? undefined : parseAuthority(secret, `${namespace}/${secretName}`);
    const state = await rotateAuthority(stored, clock.now());
    if (state !== stored) {
      await this.#write(state, secret);
      logger.info(
        { secret: `${namespace}/${secretName}`, trust: trustIdOf(state) },
        "Rotated the certificate authority",
      );
    }
    const before = this.#state;
    this.#state = state;
    if (before !== undefined && trustIdOf(before) !== trustIdOf(state)) {
      onTrustChange();
    }
  }

  #read(): Promise<Secret | undefined> {
    const { client, namespace, secretName } = this.#options;
    return client.find<Secret>(resources.secrets, namespace, secretName);
  }

  /** Fails on a conflict with another writer: what it wrote is read at the next check. */
  async #write(state: AuthorityState, existing: Secret | undefined): Promise<void> {
    const { client, namespace, secretName } = this.#options;
    const data = Object.fromEntries(
      Object.entries(entriesOf(state)).map(([key, text]) => [key, Buffer.from(text).toString("base64")]),
    );
    if (existing === undefined) {
      const labels = { "app.kubernetes.io/managed-by": "typevisor" };
      const secret: Secret = { metadata: { name: secretName, namespace, labels }, type: "Opaque", data };
      await client.create(resources.secrets, secret, FIELD_MANAGER);
    } else {
      await client.update(resources.secrets, { ...existing, data }, FIELD_MANAGER);
    }
  }
}

function entriesOf(state: AuthorityState): Record<string, string> {
  return {
    "tls.crt": state.current.certificate,
    "tls.key": state.current.key,
    ...(state.next === undefined ? {} : { "next.crt": state.next.certificate, "next.key": state.next.key }),
    ...(state.previous === undefined ? {} : { "previous.crt": state.previous }),
  };
}

/** Throws AuthoritySecretError where `secret`, called `name`, holds no authority. */
export function parseAuthority(secret: Secret, name: string): AuthorityState {
  const text = (key: string) => {
    const value = secret.data?.[key];
    return value === undefined ? undefined : Buffer.from(value, "base64").toString("utf8");
  };
  const pair = (certificateKey: string, keyKey: string): KeyPair | undefined => {
    const [certificate, key] = [text(certificateKey), text(keyKey)];
    if (certificate === undefined || key === undefined) {
      return undefined;
    }
    try {
      validityOf(certificate);
    } catch (error) {
      throw new AuthoritySecretError(name, `holds no certificate in ${certificateKey} (${messageOf(error)})`);
    }
    return { certificate, key };
  };
  const current = pair("tls.crt", "tls.key");
  if (current === undefined) {
    throw new AuthoritySecretError(name, "lacks tls.crt or tls.key");
  }
  const next = pair("next.crt", "next.key");
  const previous = text("previous.crt");
  return { current, ...(next === undefined ? {} : { next }), ...(previous === undefined ? {} : { previous }) };
}
