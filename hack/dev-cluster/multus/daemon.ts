import { request } from "node:http";
import { text } from "node:stream/consumers";

const TIMEOUT_MS = 60_000;

/** Multus' daemon did not do what it was asked for; the message is its own. */
export class MultusRefused extends Error {
  override name = "MultusRefused";
}

/** Asks the daemon at `socketPath` (its pkg/server): `/healthz`, or `/delegate` for a network of a running pod. */
export async function askMultus(
  socketPath: string,
  path: "/healthz" | "/delegate",
  body: object = {},
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = request({ socketPath, path, method: "POST", timeout: TIMEOUT_MS }, (response) => {
    text(response).then((answer) => {
      if (response.statusCode === 200) resolve(answer);
      else reject(new MultusRefused(answer.trim()));
    }, reject);
  });
  asked.on("timeout", () => asked.destroy(new MultusRefused(`no answer to ${path} within ${TIMEOUT_MS} ms`)));
  asked.on("error", reject);
  asked.end(JSON.stringify(body));
  return promise;
}
