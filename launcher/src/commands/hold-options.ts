import { parseArgs } from "node:util";
import { AGENT_MOUNT_PATH, AGENT_SOCKET_NAME, POD_UID_PATTERN } from "../../api/agent.ts";

/** What `launcher hold` holds, and for whom. */
export interface HoldOptions {
  /** For messages. */
  readonly disk: string;
  /** UID of the pod that may have it. */
  readonly to: string;
  readonly source: HoldSource;
  readonly readOnly: boolean;
  readonly agentSocketPath: string;
}

/** As in DiskSource. */
export type HoldSource =
  | { readonly kind: "directory"; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: "raw"; readonly path: string };

export const holdHelp = `launcher hold --disk NAME --to POD_UID (--directory PATH --size-bytes N | --device PATH) [--read-only]

Opens a disk and offers it to another pod of this node, by way of the node agent, until it is told to end. Then it waits
until that pod uses the disk no more.

  --directory PATH   a file system that has the file disk.img, or gets it, of N bytes
  --device PATH      a block volume of this pod
  --agent PATH       the node agent's socket (default: ${AGENT_MOUNT_PATH}/${AGENT_SOCKET_NAME})
`;

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseHoldOptions(args: readonly string[]): HoldOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      disk: { type: "string" },
      to: { type: "string" },
      directory: { type: "string" },
      "size-bytes": { type: "string" },
      device: { type: "string" },
      "read-only": { type: "boolean", default: false },
      agent: { type: "string", default: `${AGENT_MOUNT_PATH}/${AGENT_SOCKET_NAME}` },
    },
    strict: true,
  });
  const { disk, to, directory, device, agent } = values;
  if (!disk) throw new TypeError("--disk is missing: the disk's name");
  if (!to || !POD_UID_PATTERN.test(to)) throw new TypeError("--to takes the UID of a pod");
  if ((directory === undefined) === (device === undefined))
    throw new TypeError("give exactly one of --directory and --device");
  const source: HoldSource = device
    ? { kind: "raw", path: device }
    : { kind: "directory", path: directory ?? "", sizeBytes: sizeFrom(values["size-bytes"]) };
  return { disk, to, source, readOnly: values["read-only"], agentSocketPath: agent };
}

function sizeFrom(text: string | undefined): number {
  const bytes = Number(text);
  if (text && Number.isSafeInteger(bytes) && bytes > 0 && bytes % 512 === 0) return bytes;
  throw new TypeError("--size-bytes takes a positive multiple of 512");
}
