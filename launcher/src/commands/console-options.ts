import { parseArgs } from "node:util";
import { CONTROL_SOCKET_PATH } from "../../api/control.ts";

export interface ConsoleOptions {
  readonly socketPath: string;
  /** False with --read-only: nothing that is typed reaches the guest. */
  readonly write: boolean;
  readonly history: boolean;
}

/** Exit codes of `launcher console`; signals add 128 to their number. */
export const consoleExit = { detached: 0, broken: 1, unreachable: 3 } as const;

export const consoleHelp = `launcher console [--socket PATH] [--read-only] [--no-history]

Joins the terminal to the guest's serial console; Ctrl-] detaches.
Without a terminal, input goes to the guest and output to standard output until the machine ends.

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
      socket: { type: "string", default: CONTROL_SOCKET_PATH },
      "read-only": { type: "boolean", default: false },
      "no-history": { type: "boolean", default: false },
    },
    strict: true,
  });
  return { socketPath: values.socket, write: !values["read-only"], history: !values["no-history"] };
}
