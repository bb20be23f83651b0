import { createHmac, timingSafeEqual } from "node:crypto";
import { type AuthorityState, trustBundle } from "../../certificates/authority-state.ts";

/**
 * Who may ask the webhook. API servers show no certificate of their own to webhooks, and anyone in the cluster may reach its
 * port: a forged review would have a machine move. So its path ends in a word that only the webhook's configuration has,
 * derived from the authority's key, which every replica knows.
 */
export function secretPath(authorityKey: string): string {
  return `/evictions/${createHmac("sha256", authorityKey).update("typevisor eviction webhook").digest("hex").slice(0, 40)}`;
}

/** Paths that may be asked: the next authority's too, so that the configuration may be ahead. */
export function acceptedPaths({ current, next }: AuthorityState): readonly string[] {
  return [current, ...(next === undefined ? [] : [next])].map(({ key }) => secretPath(key));
}

export function isAccepted(path: string, accepted: readonly string[]): boolean {
  const asked = Buffer.from(path);
  return accepted.some((each) => {
    const known = Buffer.from(each);
    return known.length === asked.length && timingSafeEqual(known, asked);
  });
}

/** What a webhook configuration needs to say, to be answered by whoever has this authority. */
export interface WebhookAccess {
  readonly caBundle: string;
  readonly path: string;
}

export function webhookAccess(state: AuthorityState): WebhookAccess {
  return { caBundle: Buffer.from(trustBundle(state)).toString("base64"), path: secretPath(state.current.key) };
}
