import { z } from "zod";
import { imagePath, imageVolumeSource } from "./image.ts";
import { withRules } from "./rules.ts";

/** Bytes of a kernel command line, its terminating zero apart (x86 boot protocol, COMMAND_LINE_SIZE 2048). */
export const COMMAND_LINE_MAX_BYTES = 2047;

const kernel = z
  .strictObject({
    image: imageVolumeSource.describe("Image that holds the kernel, pulled by the node as an image volume."),
    path: imagePath(
      "path",
      "Kernel in the image: a bzImage or an ELF file (PVH or 64-bit), e.g. /boot/vmlinuz. Symbolic links are followed inside the image.",
    ),
    initrd: imagePath("initrd", "Initial RAM disk in the image, e.g. /boot/initrd.img.").exactOptional(),
    cmdline: withRules(
      z
        .string()
        .max(COMMAND_LINE_MAX_BYTES)
        .describe(
          `Kernel command line, e.g. "console=ttyS0 root=/dev/vda". Printable ASCII, at most ${COMMAND_LINE_MAX_BYTES} bytes.`,
        ),
      {
        rule: "self.matches('^[ -~]*$')",
        message: "cmdline must be one line of printable ASCII: remove line breaks, tabs and other characters",
      },
    ).default(""),
  })
  .describe("Boot a Linux kernel directly, without firmware.");

export const boot = z
  .strictObject({ kernel: kernel.exactOptional() })
  .describe("What the machine starts from. By default firmware (UEFI) starts the first disk that is bootable.");

export type Boot = z.output<typeof boot>;
export type KernelBoot = z.output<typeof kernel>;
