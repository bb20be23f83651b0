import { parseArgs } from "node:util";
import { ConfigError } from "../runtime/config-error.ts";

export interface NodeOptions {
  readonly deviceCount: number;
  readonly agentDir: string;
  readonly kubeletDir: string;
  readonly devicePluginDir: string;
  /** The kubelet's directory of seccomp profiles; null where the launchers' profile is not to be put there. */
  readonly seccompDir: string | null;
  readonly cgroupRoot: string;
  readonly kvmPath: string;
  readonly httpPort: number;
  readonly logLevel: LogLevel;
}

const logLevels = ["debug", "info", "warn", "error"] as const;
type LogLevel = (typeof logLevels)[number];

export const nodeHelp = `operator node [options]: offers KVM to the kubelet and hands descriptors to launchers

  --device-count=N         machines that the node holds at most (default 1000)
  --agent-dir=PATH         directory of the agent's socket, on the node and here (default /run/typevisor/agent)
  --kubelet-dir=PATH       the kubelet's --root-dir (default /var/lib/kubelet)
  --device-plugin-dir=PATH where the kubelet listens (default /var/lib/kubelet/device-plugins)
  --seccomp-dir=PATH       the kubelet's directory of seccomp profiles: the launchers' is put there; none when empty
  --cgroup-root=PATH       the kubelet's --cgroup-root, where the agent is not a pod itself (default /)
  --kvm-path=PATH          (default /dev/kvm)
  --http-port=N            health and metrics; 0 for none (default 8080)
  --log-level=LEVEL        ${logLevels.join(", ")} (default info)
`;

/** Throws ConfigError with a sentence that names the option. */
export function parseNodeOptions(args: readonly string[]): NodeOptions {
  const path = (value: string, name: string) => {
    if (!value.startsWith("/")) throw new ConfigError(`--${name}`, `must be an absolute path, not ${value}`);
    return value;
  };
  const values = parse(args);
  const logLevel = logLevels.find((level) => level === values["log-level"]);
  if (logLevel === undefined) throw new ConfigError("--log-level", `must be one of ${logLevels.join(", ")}`);
  return {
    deviceCount: wholeNumber(values["device-count"], "device-count", 1, 100_000),
    agentDir: path(values["agent-dir"], "agent-dir"),
    kubeletDir: path(values["kubelet-dir"], "kubelet-dir"),
    devicePluginDir: path(values["device-plugin-dir"], "device-plugin-dir"),
    seccompDir: values["seccomp-dir"] === "" ? null : path(values["seccomp-dir"], "seccomp-dir"),
    cgroupRoot: path(values["cgroup-root"], "cgroup-root"),
    kvmPath: path(values["kvm-path"], "kvm-path"),
    httpPort: wholeNumber(values["http-port"], "http-port", 0, 65535),
    logLevel,
  };
}

function parse(args: readonly string[]) {
  const option = (value: string) => ({ type: "string", default: value }) as const;
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      options: {
        "device-count": option("1000"),
        "agent-dir": option("/run/typevisor/agent"),
        "kubelet-dir": option("/var/lib/kubelet"),
        "device-plugin-dir": option("/var/lib/kubelet/device-plugins"),
        "seccomp-dir": option(""),
        "cgroup-root": option("/"),
        "kvm-path": option("/dev/kvm"),
        "http-port": option("8080"),
        "log-level": option("info"),
      },
    }).values;
  } catch (error) {
    throw new ConfigError("arguments", error instanceof Error ? error.message : String(error));
  }
}

function wholeNumber(text: string, name: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    throw new ConfigError(`--${name}`, `must be a whole number from ${min} to ${max}`);
  return value;
}
