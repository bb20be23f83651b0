import { describe, expect, it } from "@jest/globals";
import { notAKernel } from "./identify.ts";

const at = (offset: number, bytes: string) => {
  const head = new Uint8Array(Math.max(1024, offset + bytes.length)).fill(1);
  for (let i = 0; i < bytes.length; i++) head[offset + i] = bytes.charCodeAt(i);
  return head;
};
const text = (content: string) => new TextEncoder().encode(content);

describe("a file that is no kernel is named for what it is", () => {
  it.each([
    ["nothing", new Uint8Array(0), "not-a-kernel", "the file is empty"],
    ["a gzip file", at(0, "\x1f\x8b\x08"), "compressed", "compressed with gzip"],
    ["an xz file", at(0, "\xfd7zXZ\0"), "compressed", "compressed with xz"],
    ["a zstd file", at(0, "\x28\xb5\x2f\xfd"), "compressed", "compressed with zstd"],
    ["an Arm kernel", at(0x38, "ARM\x64"), "wrong-machine", "kernel for 64-bit Arm"],
    ["an EFI program", at(0, "MZ"), "efi-only", "no Linux boot protocol header"],
    ["an initramfs", at(0, "070701"), "not-a-kernel", "an initramfs"],
    ["a qcow2 image", at(0, "QFI\xfb"), "not-a-kernel", "a qcow2 disk image"],
    ["an ISO image", at(0x8001, "CD001"), "not-a-kernel", "an ISO 9660 image"],
    ["a disk with a boot sector", at(510, "\x55\xaa"), "not-a-kernel", "a boot sector or disk image"],
    ["a Git LFS pointer", text("version https://git-lfs.github.com/spec/v1\n"), "not-a-kernel", "Git LFS pointer"],
    [
      "a script",
      text("#!/bin/sh\nexec true\n"),
      "not-a-kernel",
      'a text file, not a kernel (it starts with "#!/bin/sh")',
    ],
    ["text in another language", text("gr\u00fc\u00dfe ".repeat(100)), "not-a-kernel", "a text file"],
    ["noise", Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8), "not-a-kernel", "starts with 00 01 02 03 04 05 06 07"],
  ])("%s", (_name, head, code, says) => {
    const error = notAKernel("/boot/vmlinuz", head);
    expect(error.message).toContain(says);
    expect(error.message).toMatch(/^\/boot\/vmlinuz: .*\. [A-Z].*\.$/);
    expect([error.code, error.file]).toEqual([code, "/boot/vmlinuz"]);
  });
});
