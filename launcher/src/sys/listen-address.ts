import type { ListenOptions } from "node:net";

/**
 * `::` stands for every address of both families. Told no address, Node listens there, and at 0.0.0.0 where the node's
 * kernel has no IPv6.
 */
export function listenOptions({ address, port }: { readonly address: string; readonly port: number }): ListenOptions {
  return address === "::" ? { port } : { host: address, port };
}
