import type { DiskConfig } from "../../api/machine-config.ts";
import { openImageDisk } from "./image-disk.ts";
import type { IoPool } from "./io-pool.ts";
import { openRawDisk } from "./raw-disk.ts";
import type { Storage } from "./storage.ts";

/** Opens what a disk of the machine stands on. Throws DiskError. */
export function openDisk(config: DiskConfig, pool: IoPool): Storage {
  const { name, source, readOnly } = config;
  return source.kind === "image"
    ? openImageDisk(name, source, pool, readOnly)
    : openRawDisk(name, source.path, pool, { readOnly });
}
