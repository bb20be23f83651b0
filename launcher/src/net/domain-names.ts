/** Domain names as DNS writes them (RFC 1035, section 3.1), without compression, one after the other. */
export function encodeDomainNames(names: readonly string[]): Uint8Array {
  return Buffer.concat(names.map(encodeDomainName));
}

function encodeDomainName(name: string): Uint8Array {
  const labels = name.split(".").map((label) => {
    const bytes = Buffer.from(label, "latin1");
    return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
  });
  return Buffer.concat([...labels, Uint8Array.of(0)]);
}
