/** Which container of which pod a process belongs to. */
export interface PodIdentity {
  readonly podUid: string;
  /** As the container runtime calls it. */
  readonly containerId: string;
}

const uuid = (separator: string) => [8, 4, 4, 4, 12].map((digits) => `[0-9a-f]{${digits}}`).join(separator);
const QOS = "(?:burstable|besteffort)";
const CONTAINER = "[0-9a-f]{64}";

/** Paths below the kubepods group as the kubelet's cgroupfs driver makes them. */
const cgroupfsPath = new RegExp(`^(?:/${QOS})?/pod(?<pod>${uuid("-")})/(?:[a-z-]+-)?(?<container>${CONTAINER})(?:/|$)`);

/** As its systemd driver does: each slice repeats the names of those above it, and "-" in a UID becomes "_". */
const systemdPath = new RegExp(
  `^(?:/(?:[^/]*-)?kubepods-${QOS}\\.slice)?/(?:[^/]*-)?kubepods(?:-${QOS})?-pod(?<pod>${uuid("_")})\\.slice` +
    `/(?:[a-z-]+-)?(?<container>${CONTAINER})(?:\\.scope)?(?:/|$)`,
);

const kubepodsName = /^(?:[^/]*-)?kubepods(?:\.slice)?$/;

/**
 * Tells pods by /proc/PID/cgroup: the kubelet puts each pod below a group called kubepods, and an unprivileged
 * container can make groups below its own only. So the path is read from its beginning, and what stands behind the
 * container's name never counts; a path that merely contains a pod's name, as a user of the node may make one, does not.
 */
export class PodCgroups {
  /** Path of the kubepods group from the root that paths are shown from; undefined when that root is inside of it. */
  readonly #kubepods: string | undefined;

  /**
   * `ownCgroups` is the agent's own /proc/self/cgroup: what leads to kubepods there leads other pods there too.
   * An agent that is no pod itself takes `cgroupRoot`, the kubelet's --cgroup-root.
   */
  constructor(ownCgroups: string, cgroupRoot = "/") {
    const own = pathsOf(ownCgroups)
      .map(kubepodsPrefix)
      .find((prefix) => prefix !== undefined);
    this.#kubepods = own ?? cgroupRoot.replace(/\/+$/, "");
  }

  /** The pod that a process with this /proc/PID/cgroup belongs to; undefined for none, and for a contradiction. */
  podOf(cgroups: string): PodIdentity | undefined {
    let found: PodIdentity | undefined;
    for (const path of pathsOf(cgroups)) {
      const pod = this.#podAt(path);
      if (pod === undefined) continue;
      if (found !== undefined && (found.podUid !== pod.podUid || found.containerId !== pod.containerId))
        return undefined;
      found = pod;
    }
    return found;
  }

  #podAt(path: string): PodIdentity | undefined {
    const match = this.#belowKubepods(path)
      .map((below) => cgroupfsPath.exec(below) ?? systemdPath.exec(below))
      .find((each) => each !== null);
    const { pod, container } = match?.groups ?? {};
    if (pod === undefined || container === undefined) return undefined;
    return { podUid: pod.replaceAll("_", "-"), containerId: container };
  }

  /** What of `path` lies below kubepods, by each way that it may be read; empty when it is elsewhere. */
  #belowKubepods(path: string): readonly string[] {
    const climbing = /^(?:\/\.\.)+(?=\/)/.exec(path)?.[0];
    if (climbing !== undefined) {
      // Seen from a cgroup namespace: "/../.." leads up to somewhere in kubepods, or right above it.
      const rest = path.slice(climbing.length);
      return [rest, ...withoutKubepods(rest)];
    }
    if (this.#kubepods === undefined || !path.startsWith(`${this.#kubepods}/`)) return [];
    return withoutKubepods(path.slice(this.#kubepods.length));
  }
}

/** `path` without its first part, where that is kubepods, and with the slices that systemd nests kubepods in. */
function withoutKubepods(path: string): readonly string[] {
  const [, first = "", ...rest] = path.split("/");
  if (kubepodsName.test(first)) return [`/${rest.join("/")}`];
  // --cgroup-root=/kubelet with systemd: /kubelet.slice/kubelet-kubepods.slice/...
  const nested = first.endsWith(".slice") ? first.slice(0, -".slice".length) : undefined;
  if (nested !== undefined && rest[0] === `${nested}-kubepods.slice`) return [`/${rest.slice(1).join("/")}`];
  return [];
}

/** The part of a pod's own path that stands before kubepods; undefined where there is no kubepods in it. */
function kubepodsPrefix(path: string): string | undefined {
  const parts = path.split("/");
  const at = parts.findIndex((part) => kubepodsName.test(part));
  if (at < 0) return undefined;
  return parts.slice(0, at).join("/");
}

/** The paths of all hierarchies: each line is "number:controllers:path", and a path may hold colons. */
function pathsOf(cgroups: string): readonly string[] {
  return cgroups
    .split("\n")
    .map((line) => /^\d+:[^:]*:(\/.*)$/.exec(line)?.[1])
    .filter((path) => path !== undefined);
}
