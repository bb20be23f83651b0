import { createHash } from "node:crypto";

/** What fits behind "tap-" in the 15 bytes of an interface's name. */
const SUFFIX_LENGTH = 11;

export interface TapNames {
  readonly tap: string;
  readonly answering: string;
}

/** Names in the pod's namespace of the devices of the interface called `name`: they show it where it fits. */
export function tapNames(name: string): TapNames {
  const suffix =
    name.length <= SUFFIX_LENGTH ? name : createHash("sha256").update(name).digest("hex").slice(0, SUFFIX_LENGTH);
  return { tap: `tap-${suffix}`, answering: `ans-${suffix}` };
}

/** Alias of our devices, which says whose they are and what interface of the pod they lead to. */
export function tapAlias(podInterface: string): string {
  return `typevisor ${podInterface}`;
}
