/** Pieces of nftables rules. Names and addresses in them are checked before, or come from the kernel as bytes. */

/** A table that takes the place of one of that name, in one transaction. */
export function replacedTable(family: "inet" | "netdev", name: string, content: readonly string[]): string {
  return [...deletedTable(family, name), `table ${family} ${name} {`, ...content.map(indented), "}"].join("\n");
}

/** Marks frames of guests on their way out of the pod; the pod's kernel marks none. */
export const GUEST_MARK = "0x74760001";

/** Adding it first makes deleting it no error. */
export function deletedTable(family: "inet" | "netdev", name: string): readonly string[] {
  return [`table ${family} ${name}`, `delete table ${family} ${name}`];
}

export function chain(name: string, rules: readonly string[]): string {
  return [`chain ${name} {`, ...rules.map(indented), "}"].join("\n");
}

/** An anonymous set. */
export function anyOf(values: readonly (string | number)[]): string {
  return `{ ${values.join(", ")} }`;
}

export function quoted(device: string): string {
  return `"${device}"`;
}

/** `rules` where `condition` holds. */
export function when(condition: boolean, ...rules: readonly string[]): readonly string[] {
  return condition ? rules : [];
}

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "\t");
}

/** What a guest asks of its link, whose answers are the launcher's: it never reaches the network behind. */
export function answeredByLauncher(
  families: { readonly ipv4: boolean; readonly ipv6: boolean },
  answeringTap: string | undefined,
): readonly string[] {
  const take = answeringTap === undefined ? "drop" : `fwd to ${quoted(answeringTap)}`;
  const solicited =
    answeringTap === undefined ? [] : [`icmpv6 type nd-neighbor-solicit dup to ${quoted(answeringTap)}`];
  return [
    ...when(families.ipv4, `meta protocol ip udp dport 67 ${take}`),
    ...when(families.ipv6, `meta protocol ip6 udp dport 547 ${take}`, `icmpv6 type nd-router-solicit ${take}`),
    ...when(families.ipv6, ...solicited),
  ];
}

/** What the launcher answers goes to the guest. */
export function answeringChain(answeringTap: string, tap: string): string {
  return chain("answers", [
    `type filter hook ingress device ${quoted(answeringTap)} priority 0; policy drop;`,
    `fwd to ${quoted(tap)}`,
  ]);
}
