import type { Gpa } from "../../memory/gpa.ts";
import type { EntryState } from "./entry.ts";

/** A kernel that lies in guest memory, and what the rest of the boot structures must respect. */
export interface LoadedKernel {
  readonly protocol: EntryState["protocol"];
  readonly entry: Gpa;
  /** First byte that the kernel does not need before it knows its memory map. */
  readonly end: number;
  /** Start of a bzImage, with its setup header. */
  readonly head: Uint8Array | null;
  /** First byte that an initrd may not use. */
  readonly initrdLimit: number;
  /** Without the terminating zero. */
  readonly commandLineMaxBytes: number;
}
