import { fstatSync, read } from "node:fs";
import { promisify } from "node:util";
import type { BootConfig } from "../../api/machine-config.ts";
import { BootImageError } from "../boot/boot-image-error.ts";
import type { FileSource } from "../boot/file-source.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { openInRoot } from "../sys/open-in-root.ts";

const readAsync = promisify(read);

/** Most that one read takes; Linux gives no more than 2 GiB at once. */
const READ_LIMIT_BYTES = 2 ** 30;

/** Kernel and initrd, or the firmware in the kernel's place, held open for as long as the machine lives: each reset loads them again. */
export class BootFiles implements Disposable {
  readonly kernel: FileSource;
  readonly initrd: FileSource | undefined;
  readonly #resources: DisposableStack;

  /** Paths are taken inside of `imageRoot`, symbolic links too; the firmware's is the host's. Throws BootImageError. */
  constructor(config: BootConfig) {
    using resources = new DisposableStack();
    if ("firmwarePath" in config) {
      const { firmwarePath } = config;
      this.kernel = fileSource(firmwarePath, resources.use(openFirmware(firmwarePath)));
      this.#resources = resources.move();
      return;
    }
    const open = (path: string) => fileSource(path, resources.use(openBootFile(config.imageRoot, path)));
    this.kernel = open(config.kernelPath);
    this.initrd = config.initrdPath === undefined ? undefined : open(config.initrdPath);
    this.#resources = resources.move();
  }

  /** No load is under way. */
  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

function openFirmware(path: string): OwnedFd {
  try {
    return openFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const wayOut = "Check boot.firmwarePath: the launcher's own image has a firmware";
    throw new BootImageError("unreadable", path, `the firmware cannot be opened (${reason})`, wayOut, { cause });
  }
}

function openBootFile(root: string, path: string): OwnedFd {
  try {
    return openInRoot(root, path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const wayOut = "Check the path, and that the image has the file";
    throw new BootImageError("unreadable", path, `it cannot be opened in the image (${reason})`, wayOut, { cause });
  }
}

function fileSource(name: string, owned: OwnedFd): FileSource {
  const { fd } = owned;
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    const found = `this is ${stat.isDirectory() ? "a directory" : "not a regular file"}`;
    throw new BootImageError("unreadable", name, found, "Name the kernel or initrd file itself");
  }
  return {
    name,
    sizeBytes: stat.size,
    async read(target, offsetBytes) {
      const { bytesRead } = await readAsync(fd, target, 0, Math.min(target.length, READ_LIMIT_BYTES), offsetBytes);
      return bytesRead;
    },
  };
}
