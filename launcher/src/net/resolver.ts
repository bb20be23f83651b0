import { readFileSync } from "node:fs";
import { isIP } from "node:net";

/** What a resolv.conf(5) says that can be passed on to another system. */
export interface Resolver {
  readonly nameservers: readonly string[];
  readonly searchDomains: readonly string[];
}

const NAMESERVERS_MAX = 3;
const SEARCH_DOMAINS_MAX = 32;
const DOMAIN = /^(?=.{1,253}$)[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*$/i;

/** A file that cannot be read says nothing. */
export function readResolver(path = "/etc/resolv.conf"): Resolver {
  try {
    return parseResolver(readFileSync(path, "utf8"));
  } catch {
    return { nameservers: [], searchDomains: [] };
  }
}

/** Loopback servers and those with a zone are left out: they are not there for anybody else. */
export function parseResolver(text: string): Resolver {
  const nameservers: string[] = [];
  let searchDomains: string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/);
    const [first] = values;
    if (keyword === "nameserver" && first !== undefined && isUsable(first)) nameservers.push(first);
    // The last of `search` and `domain` counts.
    if (keyword === "search" || keyword === "domain")
      searchDomains = values.map((domain) => domain.replace(/\.$/, "")).filter((domain) => DOMAIN.test(domain));
  }
  return {
    nameservers: nameservers.slice(0, NAMESERVERS_MAX),
    searchDomains: searchDomains.slice(0, SEARCH_DOMAINS_MAX),
  };
}

function isUsable(address: string): boolean {
  return isIP(address) !== 0 && !address.startsWith("127.") && address !== "::1" && !address.includes("%");
}
