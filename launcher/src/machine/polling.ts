import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { PollingConfig } from "../../api/machine-config.ts";
import type { PollSettings } from "../sys/poll-window.ts";

/** What was found best where a processor has to be woken by another one's interrupt; QEMU's I/O threads take the same. */
const WINDOW_US = 32;
const SHARE_PERCENT = 50;

export interface Polling {
  /** Null: nothing is looked at. */
  readonly settings: PollSettings | null;
  /** For the log. */
  readonly description: string;
}

export interface PollingHost {
  /** That this process may run on. */
  readonly processors: number;
  /** How much processor time it gets is limited: what looking takes of it, the guest misses. */
  readonly hasQuota: boolean;
}

/** How long to look for the next request to a disk, or the next frame, before sleeping, on this host. */
export function pollingHere(config: PollingConfig | undefined, host: PollingHost = thisHost()): Polling {
  const { windowUs = WINDOW_US, sharePercent = SHARE_PERCENT } = config ?? {};
  const off = (why: string): Polling => ({ settings: null, description: `off: ${why}` });
  if (windowUs === 0) return off("the configuration says so");
  if (host.processors < 2) return off("there is one processor, which the guest needs meanwhile");
  if (host.hasQuota && !config) return off("this container's CPU time is limited");
  return {
    settings: { windowMs: windowUs / 1000, share: sharePercent / 100 },
    description: `up to ${windowUs} us, at most ${sharePercent} % of a processor`,
  };
}

function thisHost(): PollingHost {
  return { processors: availableParallelism(), hasQuota: hasCpuQuota("/sys/fs/cgroup") };
}

/** Of the cgroup that is mounted at `root`: cgroup v2's cpu.max, or v1's cpu.cfs_quota_us. */
export function hasCpuQuota(root: string): boolean {
  const v2 = textOf(`${root}/cpu.max`);
  if (v2 !== null) return !v2.startsWith("max");
  const v1 = textOf(`${root}/cpu/cpu.cfs_quota_us`);
  return v1 !== null && Number(v1) > 0;
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
