import { z } from "zod";
import { withRules } from "./rules.ts";

export const API_GROUP = "typevisor.io";
export const API_VERSION = "v1alpha1";
export const GROUP_VERSION = `${API_GROUP}/${API_VERSION}` as const;

/** Labels and annotations under this prefix belong to Typevisor. */
export const RESERVED_LABEL_PREFIX = `${API_GROUP}/`;

/** Longest VirtualMachine name in characters: it is the pod's host name and a label value (RFC 1123 label). */
export const VM_NAME_MAX_LENGTH = 63;

/** Longest disk name in bytes: it is the virtio-blk serial (VIRTIO 1.3, 5.2.6: VIRTIO_BLK_ID_BYTES). */
export const DISK_NAME_MAX_LENGTH = 20;

/** CEL: true where the string expression is a DNS label (RFC 1123) apart from its length. */
export function isDnsLabel(expression: string): string {
  return `${expression}.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`;
}

/** Name of a Kubernetes object in the VirtualMachine's namespace. */
export function objectName(description: string) {
  return z.string().min(1).max(253).describe(description);
}

/** A DNS label: lower-case letters, digits and `-`, not at the ends. `field` is how messages call it. */
export function dnsLabel(field: string, maxLength: number, description: string) {
  return withRules(z.string().min(1).max(maxLength).describe(description), {
    rule: isDnsLabel("self"),
    message: `${field} must be lower-case letters, digits and '-', beginning and ending with a letter or digit`,
  });
}
