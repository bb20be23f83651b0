import { check } from "./errors.ts";
import { libc } from "./libc.ts";

/** CLONE_NEW* of <linux/sched.h>. */
export const namespaceKinds = { mount: 0x00020000, network: 0x40000000 } as const;

export type NamespaceKind = keyof typeof namespaceKinds;

/**
 * Moves the calling thread into the namespace of `fd`: one of /proc/PID/ns, or a process descriptor. Other threads stay
 * where they are, libuv's pool too: stay synchronous until the way back.
 */
export function setNamespace(fd: number, kind: NamespaceKind): void {
  check("setns", libc().setns(fd, namespaceKinds[kind]), `${kind} namespace`);
}
