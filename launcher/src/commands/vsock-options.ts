import { parseArgs } from "node:util";
import { VSOCK_SOCKET_PATH } from "../../api/control.ts";

export interface VsockOptions {
  readonly socketPath: string;
  readonly port: number;
  /** Waits for the guest instead of connecting to it. */
  readonly listens: boolean;
}

/** Exit codes of `launcher vsock`. */
export const vsockExit = { ended: 0, broken: 1, unreachable: 3 } as const;

export const vsockHelp = `launcher vsock [--listen] [--socket PATH] PORT

Joins standard input and output to a port of the guest's vsock, until the other side ends.

  --listen        waits for the guest to connect to that port of CID 2, once
  --socket PATH   the machine's socket (default: ${VSOCK_SOCKET_PATH})

Exit codes: 0 the other side ended; 1 the connection broke; 2 wrong usage; 3 nobody takes it: the machine has no vsock, or
its guest does not listen there.
`;

/** Port 2^32-1 stands for any. */
const PORT_MAX = 2 ** 32 - 2;

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseVsockOptions(args: readonly string[]): VsockOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { listen: { type: "boolean", default: false }, socket: { type: "string", default: VSOCK_SOCKET_PATH } },
    allowPositionals: true,
    strict: true,
  });
  const [text, ...more] = positionals;
  if (text === undefined || more.length > 0) throw new TypeError("vsock takes one port");
  const port = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= PORT_MAX))
    throw new TypeError(`${JSON.stringify(text)} is no port; give a number from 0 to ${PORT_MAX}`);
  return { socketPath: values.socket, port, listens: values.listen };
}
