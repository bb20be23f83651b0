import { isQcow2 } from "../storage/qcow2/header.ts";
import { ImportError } from "./import-error.ts";

export type Compression = "gzip" | "xz" | "zstd";

/** As much of a file's start tells its format. */
export const SNIFF_BYTES = 512;

const COMPRESSIONS: readonly { readonly magic: readonly number[]; readonly name: Compression }[] = [
  { magic: [0x1f, 0x8b], name: "gzip" },
  { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], name: "xz" },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], name: "zstd" },
];

/** Formats that are not read here, though people have disks in them; where their mark is, and the mark. */
const FOREIGN: readonly { readonly at: number; readonly mark: string; readonly name: string }[] = [
  { at: 0, mark: "KDMV", name: "VMDK" },
  { at: 0, mark: "# Disk DescriptorFile", name: "VMDK" },
  { at: 0, mark: "vhdxfile", name: "VHDX" },
  { at: 0, mark: "conectix", name: "VHD" },
  { at: 64, mark: "\x7f\x10\xda\xbe", name: "VDI" },
  { at: 0, mark: "QED\0", name: "QED" },
  { at: 0, mark: "BZh", name: "bzip2" },
  { at: 0, mark: "PK\x03\x04", name: "ZIP" },
  { at: 257, mark: "ustar", name: "tar" },
  { at: 0, mark: "<!DOCTYPE html", name: "HTML" },
  { at: 0, mark: "<html", name: "HTML" },
];

/** Only of files that no guest can write to: what a guest writes may begin with anything. */
export function compressionOf(start: Uint8Array): Compression | undefined {
  return COMPRESSIONS.find(({ magic }) => magic.every((byte, i) => start[i] === byte))?.name;
}

/** Throws ImportError for what is no disk that is read here. */
export function diskFormatOf(start: Uint8Array): "raw" | "qcow2" {
  if (isQcow2(start)) return "qcow2";
  if (compressionOf(start) !== undefined)
    throw new ImportError("FormatUnsupported", "the file is compressed twice; compress it once");
  const text = Buffer.from(start).toString("latin1");
  const foreign = FOREIGN.find(({ at, mark }) => text.startsWith(mark, at));
  if (foreign?.name === "HTML")
    throw new ImportError("SourceInvalid", "the file is a web page, not a disk; give the URL of the disk itself");
  if (foreign !== undefined)
    throw new ImportError(
      "FormatUnsupported",
      `the file is in ${foreign.name} format; give raw or qcow2, as it is or in gzip, xz or zstd (\`qemu-img convert -O qcow2\` makes one)`,
    );
  return "raw";
}
