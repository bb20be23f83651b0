/** One Debian package a line; blank lines and lines that start with # do not count. */
export function parsePackageList(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

/** Those of `wanted` that `dpkgOutput` (lines of "name status") does not show as installed. */
export function missingPackages(wanted: readonly string[], dpkgOutput: string): string[] {
  const installed = new Set(
    dpkgOutput
      .split("\n")
      .filter((line) => line.endsWith(" installed"))
      .map((line) => line.slice(0, line.indexOf(" "))),
  );
  return wanted.filter((name) => !installed.has(name));
}
