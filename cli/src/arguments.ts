import { InvalidArgumentError } from "commander";

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** "90s", "2m", "1h30m" or "500ms", in milliseconds. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text) {
    throw new InvalidArgumentError("write a duration such as 90s, 2m or 1h.");
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS[unit ?? ""] ?? 0), 0);
}

/** A duration of `minimum` to `maximum`, both as a person writes them. */
export function parseDurationWithin(minimum: string, maximum: string): (text: string) => number {
  const [leastMs, mostMs] = [parseDuration(minimum), parseDuration(maximum)];
  return (text) => {
    const valueMs = parseDuration(text);
    if (valueMs < leastMs || valueMs > mostMs) {
      throw new InvalidArgumentError(`write a duration of ${minimum} to ${maximum}.`);
    }
    return valueMs;
  };
}

/** The claim that a disk moves to. */
export interface TargetClaim {
  readonly disk: string;
  readonly claimName: string;
}

/** "DISK=CLAIM", beside those that stood before it: the option may be given for each disk. */
export function parseTargetClaim(text: string, before: readonly TargetClaim[] = []): readonly TargetClaim[] {
  const [disk = "", claimName = "", ...rest] = text.split("=");
  if (disk === "" || claimName === "" || rest.length > 0) {
    throw new InvalidArgumentError("write DISK=CLAIM, such as root=root-2.");
  }
  if (before.some((each) => each.disk === disk)) throw new InvalidArgumentError(`disk ${disk} has a claim already.`);
  if (before.some((each) => each.claimName === claimName)) {
    throw new InvalidArgumentError(`claim ${claimName} is another disk's already; each disk needs one of its own.`);
  }
  return [...before, { disk, claimName }];
}

/** A whole number of `minimum` or more. */
export function parseWhole(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < minimum) {
      throw new InvalidArgumentError(`write a whole number of ${minimum} or more.`);
    }
    return value;
  };
}

/** A TCP port. */
export function parsePort(text: string): number {
  const port = parseWhole(1)(text);
  if (port > 65535) throw new InvalidArgumentError("ports are 1 to 65535.");
  return port;
}
