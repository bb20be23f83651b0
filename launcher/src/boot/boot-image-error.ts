/** Why a kernel or initrd could not be loaded, for programs. */
export type BootImageErrorCode =
  /** A text file, a disk image, an archive, or bytes that mean nothing. */
  | "not-a-kernel"
  /** A kernel wrapped in gzip, xz, zstd ... that is not a bzImage. */
  | "compressed"
  /** Fewer bytes than the headers promise. */
  | "truncated"
  | "wrong-machine"
  /** A PE file without the Linux boot protocol: a unified kernel image, a boot loader, an EFI zboot kernel. */
  | "efi-only"
  /** A kernel, but too old or without an entry point that is known here. */
  | "unsupported"
  /** Headers that contradict themselves. */
  | "malformed"
  | "kernel-too-large"
  | "initrd-too-large"
  | "command-line"
  | "unreadable";

/** A kernel, initrd or command line that can not be booted. The message names the file, what was found, and the way out. */
export class BootImageError extends Error {
  readonly code: BootImageErrorCode;
  readonly file: string;

  /** `found` completes "FILE: ...", `wayOut` is a sentence without its full stop. */
  constructor(code: BootImageErrorCode, file: string, found: string, wayOut: string, options?: ErrorOptions) {
    super(`${file}: ${found}. ${wayOut}.`, options);
    this.name = "BootImageError";
    this.code = code;
    this.file = file;
  }
}
