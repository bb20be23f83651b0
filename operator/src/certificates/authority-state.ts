import { createAuthority, fingerprint, issuedAtMs, type KeyPair, renewalTimeMs, validityOf } from "./x509.ts";

/**
 * The operator's own certificate authority over time.
 *
 *   current  signs, from its first day to two thirds of its life
 *   next     exists from then on, is trusted by all, and does not sign yet: OVERLAP_MS later it becomes current
 *   previous no longer signs, and is trusted until it ends, for what it has signed
 */
export interface AuthorityState {
  readonly current: KeyPair;
  readonly next?: KeyPair;
  /** Certificate only: its key is gone. */
  readonly previous?: string;
}

export const AUTHORITY_LIFE_MS = 365 * 24 * 3_600_000;
/** Longer than it takes until every machine trusts the next authority (the kubelet renews Secrets within minutes). */
export const OVERLAP_MS = 24 * 3_600_000;

const COMMON_NAME = "typevisor-ca";

/** The state as it shall be now; the same object when nothing is due. */
export async function rotateAuthority(state: AuthorityState | undefined, nowMs: number): Promise<AuthorityState> {
  const hasEnded = (certificate: string) => nowMs >= validityOf(certificate).notAfterMs;
  if (
    state === undefined ||
    (hasEnded(state.current.certificate) && hasEnded((state.next ?? state.current).certificate))
  )
    return { current: await createAuthority(COMMON_NAME, nowMs, AUTHORITY_LIFE_MS) };
  const { current, next, previous } = state;
  // Whoever was there before the operator went away trusts it already.
  if (next !== undefined && hasEnded(current.certificate)) return { current: next };
  if (next !== undefined && nowMs >= issuedAtMs(validityOf(next.certificate)) + OVERLAP_MS) {
    return { current: next, previous: current.certificate };
  }
  if (next === undefined && nowMs >= renewalTimeMs(validityOf(current.certificate))) {
    return { ...state, next: await createAuthority(COMMON_NAME, nowMs, AUTHORITY_LIFE_MS) };
  }
  if (previous !== undefined && hasEnded(previous)) {
    return { current, ...(next === undefined ? {} : { next }) };
  }
  return state;
}

/** PEM certificates of all authorities that are trusted. */
export function trustBundle(state: AuthorityState): string {
  const certificates = [state.current.certificate, state.next?.certificate, state.previous];
  return certificates
    .filter((certificate) => certificate !== undefined)
    .map((certificate) => `${certificate.trim()}\n`)
    .join("");
}

/** Changes whenever machines need another bundle or another issuer. */
export function trustIdOf(state: AuthorityState): string {
  return fingerprint(trustBundle(state));
}
