import type { Cluster } from "../cluster/cluster.ts";
import { exec } from "../cluster/exec.ts";
import { getRunningPod, LAUNCHER_CONTAINER } from "../cluster/machines.ts";
import type { Environment } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import { awaitMachine } from "./await-machine.ts";

export interface ConsoleOptions {
  readonly port?: "serial" | "virtio";
  readonly readOnly: boolean;
  readonly history: boolean;
  readonly wait: boolean;
  readonly timeoutMs: number;
}

/** `console`: joins the terminal to the guest's console through the launcher's own command. Answers the exit code. */
export async function attachConsole(
  cluster: Cluster,
  name: string,
  options: ConsoleOptions,
  environment: Environment,
): Promise<number> {
  if (options.wait) {
    const isMet = ({ status }: { status?: { phase?: string } }) =>
      ["Running", "Paused", "Migrating"].includes(status?.phase ?? "");
    await awaitMachine(cluster, name, { what: "running", isMet }, { ...options, signal: environment.signal });
  }
  const pod = await getRunningPod(cluster, name);
  const command = [
    "console",
    ...(options.port === undefined ? [] : ["--port", options.port]),
    ...(options.readOnly ? ["--read-only"] : []),
    ...(options.history ? [] : ["--no-history"]),
  ];
  const tty = environment.stdin.isTTY === true && environment.stdout.isTTY === true;
  const where = { namespace: cluster.namespace, pod: pod.metadata?.name ?? "", container: LAUNCHER_CONTAINER };
  const code = await exec(cluster, { ...where, command, tty }, environment);
  if (code === 3) {
    throw new CliError(
      `the launcher of ${name} does not answer; kubectl vm logs ${name} shows its log`,
      exitCodes.failed,
    );
  }
  return code;
}
