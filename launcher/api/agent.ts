/**
 * Agent protocol: launcher to node agent over a unix stream socket. One JSON line asks, one JSON line answers,
 * with one file descriptor per granted item, in the order asked, in the same message (SCM_RIGHTS).
 * Who asks is taken from the socket's peer credentials, never from the request.
 */

export const AGENT_PROTOCOL_VERSION = 1;

/** File name of the socket in the directory that the device plugin mounts into the pod. */
export const AGENT_SOCKET_NAME = "agent.sock";

/** Where the device plugin mounts that directory in a launcher's container. */
export const AGENT_MOUNT_PATH = "/run/typevisor/agent";

/** Extended resource whose allocation lets a pod reach the agent. */
export const KVM_RESOURCE = "devices.typevisor.io/kvm";

/** Longest request or answer line in bytes, newline included. */
export const AGENT_LINE_MAX_BYTES = 64 * 1024;

export interface AgentRequest {
  readonly version: typeof AGENT_PROTOCOL_VERSION;
  /** At most 16. */
  readonly want: readonly AgentWant[];
}

export type AgentWant =
  | { readonly kind: "kvm" }
  | { readonly kind: "userfaultfd" }
  /** `path` is a device node in the asking container that belongs to one of its pod's own block volumes. */
  | { readonly kind: "block"; readonly path: string; readonly readOnly: boolean; readonly direct: boolean };

export type AgentAnswer =
  | { readonly version: typeof AGENT_PROTOCOL_VERSION; readonly ok: true; readonly agentVersion: string }
  | { readonly version: typeof AGENT_PROTOCOL_VERSION; readonly ok: false; readonly error: AgentError };

export interface AgentError {
  readonly code: AgentErrorCode;
  readonly message: string;
  /** Index in `want` of the item that failed; absent when the request as a whole did. */
  readonly item?: number;
}

export type AgentErrorCode =
  | "BadRequest"
  | "UnsupportedVersion"
  | "NotAPod"
  | "NotAuthorized"
  | "DeviceMissing"
  /** A block device for writing that is claimed on the node already. */
  | "DeviceBusy"
  | "Internal";
