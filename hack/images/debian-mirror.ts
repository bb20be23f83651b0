import { run } from "../lib/step.ts";

/** Keyring that signs all Debian releases; package debian-archive-keyring. */
export const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** No mirror of Debian is configured on this machine. */
export class NoDebianMirror extends Error {
  override name = "NoDebianMirror";
  constructor() {
    super(
      "apt on this machine knows no Debian mirror. Next: run 'apt-get update', or set TYPEVISOR_DEBIAN_MIRROR " +
        "to the address of one (and TYPEVISOR_DEBIAN_SECURITY_MIRROR for security updates)",
    );
  }
}

interface IndexTarget {
  readonly label: string;
  readonly uri: string;
}

/**
 * Lines of a sources.list for `suite`, from the mirrors that this machine's own apt uses for whatever Debian it runs.
 * Fetches package lists first where apt has none yet, since only they tell which mirror is Debian's.
 */
export async function debianSources(suite: string, env: NodeJS.ProcessEnv = process.env): Promise<string[]> {
  const given = env["TYPEVISOR_DEBIAN_MIRROR"];
  if (given) return sourceLines(suite, given, env["TYPEVISOR_DEBIAN_SECURITY_MIRROR"]);
  const targets = (await indexTargets()) ?? (await run(["apt-get", "update"]).then(indexTargets));
  const uriOf = (label: string) => targets?.find((target) => target.label === label)?.uri;
  const mirror = uriOf("Debian");
  if (!mirror) throw new NoDebianMirror();
  return sourceLines(suite, mirror, uriOf("Debian-Security"));
}

async function indexTargets(): Promise<IndexTarget[] | null> {
  const output = await run(["apt-get", "indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"]);
  const targets = parseIndexTargets(output);
  return targets.length > 0 ? targets : null;
}

/** What `apt-get indextargets` prints as "label<TAB>uri" lines; targets whose lists were never fetched have no label. */
export function parseIndexTargets(output: string): IndexTarget[] {
  return output
    .split("\n")
    .map((line) => line.split("\t"))
    .flatMap(([label, uri]) => (label && uri ? [{ label, uri }] : []));
}

/** One-line style sources of main, updates and, where a mirror of it is known, security; sid has main alone. */
export function sourceLines(suite: string, mirror: string, securityMirror?: string): string[] {
  const line = (uri: string, release: string) => `deb [signed-by=${debianKeyring}] ${uri} ${release} main`;
  if (suite === "sid") return [line(mirror, suite)];
  return [
    line(mirror, suite),
    line(mirror, `${suite}-updates`),
    ...(securityMirror ? [line(securityMirror, `${suite}-security`)] : []),
  ];
}
