import { parseArgs } from "node:util";
import { CONTROL_SOCKET_PATH, type ConsolePortName } from "../../api/control.ts";

export interface ConsoleOptions {
  readonly socketPath: string;
  /** False with --read-only: nothing that is typed reaches the guest. */
  readonly write: boolean;
  readonly history: boolean;
  /** Undefined: what the launcher takes for the guest's console. */
  readonly port: ConsolePortName | undefined;
}

/** Exit codes of `launcher console`; signals add 128 to their number. */
export const consoleExit = { detached: 0, broken: 1, unreachable: 3 } as const;

export const consoleHelp = `launcher console [--port serial|virtio] [--socket PATH] [--read-only] [--no-history]

Joins the terminal to the guest's console; Ctrl-] detaches.
Without a terminal, input goes to the guest and output to standard output until the machine ends.

  --port NAME     serial (ttyS0 in Linux) or virtio (hvc0); default: what the kernel's command line names last
  --socket PATH   the launcher's control socket (default: ${CONTROL_SOCKET_PATH})
  --read-only     show output, send nothing
  --no-history    do not show what the guest wrote before

Exit codes: 0 detached, or the machine ended; 1 the connection broke; 2 wrong usage; 3 no launcher answers.
`;

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseConsoleOptions(args: readonly string[]): ConsoleOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: "string" },
      socket: { type: "string", default: CONTROL_SOCKET_PATH },
      "read-only": { type: "boolean", default: false },
      "no-history": { type: "boolean", default: false },
    },
    strict: true,
  });
  const { port, socket } = values;
  if (port !== undefined && port !== "serial" && port !== "virtio")
    throw new TypeError(`--port takes serial or virtio, not ${JSON.stringify(port)}`);
  return { socketPath: socket, write: !values["read-only"], history: !values["no-history"], port };
}
