import { fstatSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { SysError } from "../sys/errors.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile, preadFully, pwriteFully } from "../sys/file-io.ts";
import { createMemfd } from "../sys/mapping.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { asDiskError, DiskError } from "./disk-error.ts";
import type { IoPool } from "./io-pool.ts";
import { buildIso, type IsoFile } from "./iso9660/iso-image.ts";
import { type RawDisk, rawDiskOn } from "./raw-disk.ts";
import { openVolumeDirectory } from "./volume-directory.ts";

/** ConfigMaps and Secrets have at most 1 MiB; a disk of files may be made by hand too. */
const CONTENT_LIMIT_BYTES = 4 * 2 ** 20;
const FILE_LIMIT = 4096;
/** What the kubelet swaps to change all files of a ConfigMap or Secret at once; their names are links through it. */
const SNAPSHOT_LINK = "..data";

export interface FilesSource {
  readonly directory: string;
  readonly volumeLabel: string;
}

export interface CloudInitSource {
  readonly userDataPath?: string;
  readonly networkDataPath?: string;
  readonly instanceId: string;
  readonly localHostname: string;
}

/** A read-only disk of the regular files in a directory, as they are now. Throws DiskError, which tells no content. */
export function openFilesDisk(name: string, source: FilesSource, pool: IoPool): RawDisk {
  const { directory, volumeLabel } = source;
  const budget = new Budget(name, directory);
  using root = openSnapshot(name, directory);
  const entries = asDiskError(name, `${directory} cannot be read`, "check its permissions", () =>
    readdirSync(`/proc/self/fd/${root.fd}`).filter((entry) => !entry.startsWith("..")),
  );
  if (entries.length > FILE_LIMIT)
    throw new DiskError(name, `${directory} has ${entries.length} files; a disk takes at most ${FILE_LIMIT}`);
  const files = entries.map((entry) => ({
    name: entry,
    content: readRegularFile(name, root, entry, join(directory, entry), budget),
  }));
  return isoDisk(name, volumeLabel, files, pool);
}

/**
 * A read-only seed for cloud-init: its data source NoCloud finds it by the label, and takes it where user-data and
 * meta-data are there. Throws DiskError, which tells no content.
 */
export function openCloudInitDisk(name: string, source: CloudInitSource, pool: IoPool): RawDisk {
  const { userDataPath, networkDataPath, instanceId, localHostname } = source;
  const budget = new Budget(name, "the seed");
  const read = (path: string) => {
    using directory = openVolumeDirectory(name, dirname(path));
    return readRegularFile(name, directory, basename(path), path, budget);
  };
  const files: IsoFile[] = [
    { name: "user-data", content: userDataPath === undefined ? Buffer.from("#cloud-config\n") : read(userDataPath) },
    // YAML takes strings as JSON writes them.
    {
      name: "meta-data",
      content: Buffer.from(
        `instance-id: ${JSON.stringify(instanceId)}\nlocal-hostname: ${JSON.stringify(localHostname)}\n`,
      ),
    },
  ];
  if (networkDataPath !== undefined) files.push({ name: "network-config", content: read(networkDataPath) });
  return isoDisk(name, "cidata", files, pool);
}

/** The image lives in memory alone: it may hold secrets. */
function isoDisk(name: string, label: string, files: readonly IsoFile[], pool: IoPool): RawDisk {
  const path = "its image in memory";
  return asDiskError(name, `${path} cannot be made`, "see whether the node has memory left", () => {
    const image = buildIso(label, files);
    using memory = createMemfd("typevisor-iso", image.length);
    pwriteFully(memory.fd, image, 0);
    using cleanup = new DisposableStack();
    const fd = cleanup.use(openFile(`/proc/self/fd/${memory.fd}`));
    const disk = rawDiskOn({ name, path, fd, directFd: null, pool, readOnly: true });
    cleanup.move();
    return disk;
  });
}

/** The directory itself, or where ConfigMaps and Secrets have their files: those of one moment, whatever comes after. */
function openSnapshot(name: string, path: string): OwnedFd {
  const directory = openVolumeDirectory(name, path);
  try {
    const snapshot = openInRoot(directory.fd, SNAPSHOT_LINK);
    directory[Symbol.dispose]();
    return snapshot;
  } catch (error) {
    if (error instanceof SysError && error.code === "ENOENT") return directory;
    directory[Symbol.dispose]();
    throw new DiskError(name, `${path}/${SNAPSHOT_LINK} cannot be opened`, { cause: error });
  }
}

/** Links are followed, but not out of the directory. */
function readRegularFile(name: string, root: OwnedFd, file: string, path: string, budget: Budget): Uint8Array {
  return asDiskError(name, `${path} cannot be read`, "check that it is there, and its permissions", () => {
    using handle = openInRoot(root.fd, file, { pathOnly: true });
    const stat = fstatSync(handle.fd);
    if (!stat.isFile()) throw new DiskError(name, `${path} is not a regular file; a disk of files takes nothing else`);
    const content = new Uint8Array(budget.take(stat.size));
    using fd = openFile(`/proc/self/fd/${handle.fd}`);
    return content.subarray(0, preadFully(fd.fd, content, 0));
  });
}

/** How much all files of a disk may have together. */
class Budget {
  readonly #disk: string;
  readonly #what: string;
  #takenBytes = 0;

  constructor(disk: string, what: string) {
    this.#disk = disk;
    this.#what = what;
  }

  take(sizeBytes: number): number {
    this.#takenBytes += sizeBytes;
    if (this.#takenBytes > CONTENT_LIMIT_BYTES)
      throw new DiskError(
        this.#disk,
        `the files of ${this.#what} have more than ${CONTENT_LIMIT_BYTES} bytes; put large data on a volume of its own`,
      );
    return sizeBytes;
  }
}
