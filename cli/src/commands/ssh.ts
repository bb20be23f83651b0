import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Cluster } from "../cluster/cluster.ts";
import { getRunningPod } from "../cluster/machines.ts";
import type { ClusterOptions, Environment } from "../environment.ts";
import { CliError } from "../exit-codes.ts";

export interface SshOptions extends ClusterOptions {
  readonly port: number;
  readonly identityFile?: string;
  /** The ssh to run. */
  readonly program: string;
}

/** "user@machine" or "machine". */
export function parseTarget(target: string): { readonly user?: string; readonly name: string } {
  const at = target.lastIndexOf("@");
  return at < 0 ? { name: target } : { user: target.slice(0, at), name: target.slice(at + 1) };
}

/** `ssh`: runs the user's own ssh, whose connection goes through this program: no port is opened on this machine. */
export async function ssh(
  cluster: Cluster,
  target: string,
  words: readonly string[],
  options: SshOptions,
  environment: Environment,
): Promise<number> {
  const { user, name } = parseTarget(target);
  await getRunningPod(cluster, name);
  const child = spawn(
    options.program,
    sshArguments({ user, name, namespace: cluster.namespace }, words, options, environment),
    {
      stdio: "inherit",
      env: { ...process.env, ...environment.variables },
    },
  );
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return code ?? (signal === null ? 255 : 128);
  } catch (error) {
    throw new CliError(`cannot run ${options.program} (${(error as Error).message}); install an OpenSSH client`);
  }
}

/** Arguments of ssh. The host key is known by the machine's name, whatever pod or address it has. */
export function sshArguments(
  { user, name, namespace }: { readonly user?: string | undefined; readonly name: string; readonly namespace: string },
  words: readonly string[],
  options: SshOptions,
  { self }: Pick<Environment, "self">,
): string[] {
  const cluster = [
    ...(options.kubeconfig === undefined ? [] : ["--kubeconfig", options.kubeconfig]),
    ...(options.context === undefined ? [] : ["--context", options.context]),
    "--namespace",
    namespace,
  ];
  const proxy = [...self, "port-forward", "--stdio", ...cluster, "--", name, String(options.port)];
  return [
    "-o",
    `ProxyCommand=${proxy.map(shellQuoted).join(" ").replaceAll("%", "%%")}`,
    "-o",
    `HostKeyAlias=vm.${name}.${namespace}`,
    ...(options.identityFile === undefined ? [] : ["-i", options.identityFile]),
    ...(user === undefined ? [] : ["-l", user]),
    "--",
    `vm.${name}.${namespace}`,
    ...words,
  ];
}

/** ssh gives its ProxyCommand to the user's shell. */
function shellQuoted(word: string): string {
  return /^[\w./:=@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
