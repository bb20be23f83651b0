import { BootImageError, type BootImageErrorCode } from "./boot-image-error.ts";

interface Signature {
  readonly offset: number;
  readonly bytes: readonly number[] | string;
  readonly code: BootImageErrorCode;
  readonly found: string;
  readonly wayOut: string;
}

const UNPACK = "Unpack it first: only bzImages unpack themselves";
const NAME_KERNEL = "Name a Linux bzImage (vmlinuz) or an ELF kernel (vmlinux)";
const X86_KERNEL = "Use a kernel for x86-64 (amd64)";

function compressed(found: string, bytes: Signature["bytes"]): Signature {
  return { offset: 0, bytes, code: "compressed", found: `this is compressed with ${found}`, wayOut: UNPACK };
}

function other(found: string, bytes: Signature["bytes"], offset = 0): Signature {
  return { offset, bytes, code: "not-a-kernel", found: `this is ${found}, not a kernel`, wayOut: NAME_KERNEL };
}

/** What people hand over instead of a kernel; the first match counts. */
const SIGNATURES: readonly Signature[] = [
  compressed("gzip", [0x1f, 0x8b]),
  compressed("xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]),
  compressed("zstd", [0x28, 0xb5, 0x2f, 0xfd]),
  compressed("bzip2", "BZh"),
  compressed("LZ4", [0x04, 0x22, 0x4d, 0x18]),
  compressed("LZ4", [0x02, 0x21, 0x4c, 0x18]),
  {
    offset: 0x38,
    bytes: "ARM\x64",
    code: "wrong-machine",
    found: "this is a kernel for 64-bit Arm",
    wayOut: X86_KERNEL,
  },
  { offset: 0x38, bytes: "RSC\x05", code: "wrong-machine", found: "this is a kernel for RISC-V", wayOut: X86_KERNEL },
  {
    offset: 0,
    bytes: "MZ",
    code: "efi-only",
    found:
      "this EFI program has no Linux boot protocol header (a unified kernel image, a boot loader, or a kernel for EFI only)",
    wayOut: "Name the bzImage (vmlinuz) that it was made from",
  },
  other("an initramfs (cpio archive)", "0707"),
  other("a Debian package", "!<arch>\ndebian"),
  other("a tar archive", "ustar", 257),
  other("a ZIP archive", "PK\x03\x04"),
  other("a qcow2 disk image", "QFI\xfb"),
  other("an ISO 9660 image", "CD001", 0x8001),
  other("a Git LFS pointer, and the file itself was not fetched", "version https://git-lfs"),
  other("a boot sector or disk image", [0x55, 0xaa], 510),
];
const QUOTED_CHARACTERS = 40;

/** Why a file that is neither bzImage nor ELF is no kernel; `head` is its start (4 KiB or the whole file). */
export function notAKernel(file: string, head: Uint8Array): BootImageError {
  if (head.length === 0) return new BootImageError("not-a-kernel", file, "the file is empty", NAME_KERNEL);
  for (const signature of SIGNATURES)
    if (matches(head, signature)) return new BootImageError(signature.code, file, signature.found, signature.wayOut);
  const text = asText(head);
  const found =
    text === null
      ? `this is not a kernel (it starts with ${hex(head.subarray(0, 8))})`
      : `this is a text file, not a kernel (it starts with ${JSON.stringify(text.slice(0, QUOTED_CHARACTERS))})`;
  return new BootImageError("not-a-kernel", file, found, NAME_KERNEL);
}

function matches(head: Uint8Array, { offset, bytes }: Signature): boolean {
  const wanted = typeof bytes === "string" ? Array.from(bytes, (character) => character.charCodeAt(0)) : bytes;
  return wanted.every((byte, index) => head[offset + index] === byte);
}

/** The first line, where the bytes are printable UTF-8. */
function asText(head: Uint8Array): string | null {
  const text = new TextDecoder().decode(head.subarray(0, 512), { stream: true });
  const isText = !/[\p{Cc}\ufffd]/u.test(text.replace(/[\t\n\r\f]/g, ""));
  return isText ? (text.trimStart().split(/[\r\n]/, 1)[0] ?? "") : null;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
