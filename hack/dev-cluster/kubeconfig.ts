import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { writeAtomic } from "./state.ts";

export interface KubeconfigOptions {
  readonly pkiDir: string;
  /** The holder of the client certificate `<pkiDir>/<user>.crt`. */
  readonly user: string;
  readonly server: string;
  readonly cluster: string;
}

/** A kubeconfig with everything inline, so that it can be copied. */
export async function renderKubeconfig({ pkiDir, user, server, cluster }: KubeconfigOptions): Promise<string> {
  const inline = async (name: string) => (await readFile(join(pkiDir, name))).toString("base64");
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: cluster, cluster: { server, "certificate-authority-data": await inline("ca.crt") } }],
    users: [
      {
        name: user,
        user: {
          "client-certificate-data": await inline(`${user}.crt`),
          "client-key-data": await inline(`${user}.key`),
        },
      },
    ],
    contexts: [{ name: cluster, context: { cluster, user } }],
    "current-context": cluster,
  });
}

export async function writeKubeconfig(file: string, options: KubeconfigOptions): Promise<void> {
  await writeAtomic(file, await renderKubeconfig(options));
}
