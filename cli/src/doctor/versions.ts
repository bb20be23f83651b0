/** Major and minor of "v1.37.2" or "containerd://2.4.2"; undefined for other text. */
export function versionOf(text: string): readonly [major: number, minor: number] | undefined {
  const match = /(?:^|\/\/|v)(\d+)\.(\d+)/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/** Whether `text` names at least MAJOR.MINOR; false for what is no version. */
export function isAtLeast(text: string, major: number, minor: number): boolean {
  const version = versionOf(text);
  return version !== undefined && (version[0] > major || (version[0] === major && version[1] >= minor));
}
