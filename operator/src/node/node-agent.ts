import { readFileSync } from "node:fs";
import { installLauncherSeccomp } from "../launcher-seccomp/install.ts";
import type { Logger } from "../runtime/logger.ts";
import { AgentServer } from "./agent/agent-server.ts";
import { loadNftables } from "./agent/network/libnftables.ts";
import { hasVhostNet } from "./agent/network/tap-grant.ts";
import { PodCgroups } from "./agent/pod-identity.ts";
import { selinuxLabeller } from "./agent/selinux-label.ts";
import { DevicePlugin } from "./device-plugin/device-plugin.ts";
import { kvmProblem, watchDevice } from "./device-plugin/kvm-health.ts";
import { loadDevicePluginProtocol } from "./device-plugin/protocol.ts";
import { startLabeller } from "./labels/start-labeller.ts";
import type { NodeMetrics } from "./metrics.ts";
import type { NodeOptions } from "./options.ts";

const USERFAULTFD_PATH = "/dev/userfaultfd";
const VHOST_NET_PATH = "/dev/vhost-net";

export interface NodeAgentParts {
  readonly options: NodeOptions;
  readonly log: Logger;
  readonly metrics: NodeMetrics;
  readonly version: string;
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * All of node mode: the seccomp profile and the agent first, so that a pod that is admitted finds them; then the device
 * plugin. Throws SeccompInstallError: a node without the profile must not offer devices.
 */
export async function startNodeAgent(
  parts: NodeAgentParts,
): Promise<AsyncDisposable & { readonly isReady: () => boolean }> {
  const { options, log, metrics, version } = parts;
  const cleanup = new AsyncDisposableStack();
  if (options.seccompDir !== null) {
    const path = installLauncherSeccomp(options.seccompDir);
    log.info({ path, reason: "SeccompInstalled" }, "the launchers' seccomp profile is there");
  }
  const agent = cleanup.use(
    new AgentServer({
      directory: options.agentDir,
      paths: {
        kubeletDir: options.kubeletDir,
        kvmPath: options.kvmPath,
        userfaultfdPath: USERFAULTFD_PATH,
        vhostNetPath: VHOST_NET_PATH,
      },
      pods: new PodCgroups(readFileSync("/proc/self/cgroup", "utf8"), options.cgroupRoot),
      log,
      metrics: metrics.agent,
      version,
      label: selinuxLabeller(log),
    }),
  );
  metrics.watchVhostNet(() => hasVhostNet(VHOST_NET_PATH));
  readyForNetworks(log);
  await agent.listen();
  log.info({ directory: options.agentDir, reason: "AgentListens" }, "agent listens");
  const labelling = startLabeller({ environment: parts.environment, kvmPath: options.kvmPath, log, version });
  if (labelling !== undefined) cleanup.use(labelling);
  const plugin = startDevicePlugin(parts, cleanup, () => labelling?.lookAgain());
  return { isReady: () => plugin.registered, [Symbol.asyncDispose]: () => cleanup.disposeAsync() };
}

/** Machines without interfaces do not need it. */
function readyForNetworks(log: Logger): void {
  try {
    loadNftables();
  } catch (error) {
    log.warn({ err: error, reason: "NftablesMissing" }, "interfaces of machines cannot be wired on this node");
  }
}

function startDevicePlugin(
  { options, log, metrics }: NodeAgentParts,
  cleanup: AsyncDisposableStack,
  onKvmChange: () => void,
): DevicePlugin {
  let problem = kvmProblem(options.kvmPath);
  const tell = () => {
    metrics.kvmUsable(problem === undefined);
    if (problem === undefined) log.info({ reason: "KvmUsable" }, "KVM is usable: devices are healthy");
    else log.warn({ reason: "KvmUnusable", problem }, "KVM is not usable: devices are unhealthy");
  };
  tell();
  const pluginParts = {
    protocol: loadDevicePluginProtocol(),
    directory: options.devicePluginDir,
    offer: { deviceCount: options.deviceCount, agentDirectory: options.agentDir },
    log,
  };
  const plugin = cleanup.use(new DevicePlugin(pluginParts, problem === undefined));
  const watcher = watchDevice(options.kvmPath, () => {
    const found = kvmProblem(options.kvmPath);
    if (found === problem) return;
    problem = found;
    tell();
    plugin.setHealthy(problem === undefined);
    if (problem === undefined) onKvmChange();
  });
  cleanup.use(watcher);
  metrics.watchPlugin({ deviceCount: options.deviceCount, isRegistered: () => plugin.registered });
  plugin.start();
  return plugin;
}
