import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { writeAtomic } from "./state.ts";

/** Writes a kubeconfig with everything inline for the holder of the client certificate `<pkiDir>/<user>.crt`. */
export async function writeKubeconfig(
  file: string,
  options: { pkiDir: string; user: string; server: string; cluster: string },
): Promise<void> {
  const { pkiDir, user, server, cluster } = options;
  const inline = async (name: string) => (await readFile(join(pkiDir, name))).toString("base64");
  const config = {
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
  };
  await writeAtomic(file, stringify(config));
}
