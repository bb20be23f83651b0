import { fstatSync } from "node:fs";
import { OwnedFd } from "../sys/fd.ts";
import { ftruncate, openFile, preadFully, pwriteFully } from "../sys/file-io.ts";
import { lockFile } from "../sys/file-lock.ts";
import { CLUSTER_BYTES, ClusterMap } from "./cluster-map.ts";
import { asDiskError, DiskError } from "./disk-error.ts";
import { FileIo } from "./file-io.ts";
import { type ImageFileSource, openImageFile } from "./image-file.ts";
import { IncomingFile } from "./incoming-file.ts";
import type { IoPool } from "./io-pool.ts";
import { OverlayBudget } from "./overlay-budget.ts";
import { OverlayDisk } from "./overlay-disk.ts";
import type { DamageReport } from "./qcow2/damage.ts";
import { describeHeader, isQcow2 } from "./qcow2/header.ts";
import { Qcow2Image, type Qcow2Metadata, readMetadata } from "./qcow2/qcow2-image.ts";
import { SECTOR_BYTES } from "./storage.ts";

/** More than any image, and the map of clusters stays small. */
const SIZE_LIMIT_BYTES = 64 * 2 ** 40;

export interface ImageSource extends ImageFileSource {
  readonly overlayPath: string;
  readonly overlayLimitBytes?: number;
}

/** First bytes of files that are no disks that we read, though people put them where one is wanted. */
const FOREIGN_FORMATS: readonly {
  readonly magic: readonly number[];
  readonly format: string;
  readonly wayOut: string;
}[] = [
  { magic: [0x4b, 0x44, 0x4d, 0x56], format: "VMDK", wayOut: "convert it with `qemu-img convert -O qcow2`" },
  { magic: [0x76, 0x68, 0x64, 0x78], format: "VHDX", wayOut: "convert it with `qemu-img convert -O qcow2`" },
  { magic: [0x1f, 0x8b], format: "gzip", wayOut: "decompress it when the image is built" },
  { magic: [0xfd, 0x37, 0x7a, 0x58], format: "xz", wayOut: "decompress it when the image is built" },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], format: "zstd", wayOut: "decompress it when the image is built" },
];

export interface ImageDiskOptions {
  readonly readOnly: boolean;
  readonly onDamage?: DamageReport | undefined;
  /** The overlay is taken as it was left; which clusters it holds is restored (`Storage.restoreState`). */
  readonly keepOverlay?: boolean;
  /** A migration fills the overlay, which is gone again unless the disk is claimed. */
  readonly isIncoming?: boolean;
}

/**
 * Opens the read-only disk of an image, raw or qcow2, under a fresh overlay. A raw disk has the size of its file, rounded
 * up to whole sectors. Throws DiskError.
 */
export function openImageDisk(name: string, source: ImageSource, pool: IoPool, options: ImageDiskOptions): OverlayDisk {
  const file = openImageFile(name, source);
  let overlay: OwnedFd | undefined;
  try {
    const fileBytes = fstatSync(file.fd).size;
    const qcow2 = qcow2Metadata(name, file.fd, fileBytes);
    const sizeBytes = qcow2?.header.sizeBytes ?? Math.ceil(fileBytes / SECTOR_BYTES) * SECTOR_BYTES;
    overlay = openOverlay(name, source.overlayPath, sizeBytes, options.keepOverlay ?? false);
    const held = new ClusterMap();
    if (!qcow2 && sizeBytes !== fileBytes) copyLastCluster(file.fd, overlay.fd, fileBytes, held);
    const lane = pool.openLane();
    const image = qcow2 && new Qcow2Image(file.fd, lane, qcow2, options.onDamage ?? (() => {}));
    return new OverlayDisk({
      base: image ?? new FileIo(file.fd, lane, true),
      imageFd: file.fd,
      overlay: new FileIo(overlay.fd, lane, true),
      held,
      budget: new OverlayBudget(overlay.fd, source.overlayLimitBytes),
      sizeBytes,
      readOnly: options.readOnly,
      description: `image, ${qcow2 ? describeHeader(qcow2.header) : `raw, ${fileBytes} bytes`}`,
      lane,
      incoming: options.isIncoming ? new IncomingFile(source.overlayPath) : null,
      resources: [...(image ? [image] : []), file, overlay],
    });
  } catch (error) {
    file[Symbol.dispose]();
    overlay?.[Symbol.dispose]();
    throw error;
  }
}

/** Null for a raw disk. Only what no guest can write is looked at: the file is the image's, and read-only. */
function qcow2Metadata(name: string, fd: number, fileBytes: number): Qcow2Metadata | null {
  const start = new Uint8Array(8);
  preadFully(fd, start, 0);
  if (isQcow2(start))
    return asDiskError(name, "the image's disk cannot be read", "check the image", () =>
      readMetadata(name, fd, fileBytes),
    );
  const foreign = FOREIGN_FORMATS.find(({ magic }) => magic.every((byte, i) => start[i] === byte));
  if (foreign) throw new DiskError(name, `the image's disk is in ${foreign.format} format; ${foreign.wayOut}`);
  if (fileBytes === 0 || fileBytes > SIZE_LIMIT_BYTES)
    throw new DiskError(name, `the image's disk has ${fileBytes} bytes; rebuild the image with a disk in /disk`);
  return null;
}

function openOverlay(name: string, path: string, sizeBytes: number, keep: boolean): OwnedFd {
  return asDiskError(name, `the overlay ${path} cannot be made`, "check that its volume is writable", () => {
    using fd = openFile(path, { write: true, create: true, noFollow: true });
    if (lockFile(fd.fd, "exclusive") === "taken") throw new DiskError(name, `the overlay ${path} is in use already`);
    if (!keep) ftruncate(fd.fd, 0);
    ftruncate(fd.fd, sizeBytes);
    return new OwnedFd(fd.take());
  });
}

/** So that no read of the base passes its end: the cluster that the padding is in comes from the overlay. */
function copyLastCluster(base: number, overlay: number, baseBytes: number, held: ClusterMap): void {
  const cluster = Math.floor(baseBytes / CLUSTER_BYTES);
  const bytes = new Uint8Array(baseBytes - cluster * CLUSTER_BYTES);
  preadFully(base, bytes, cluster * CLUSTER_BYTES);
  pwriteFully(overlay, bytes, cluster * CLUSTER_BYTES);
  held.add(cluster, cluster);
}
