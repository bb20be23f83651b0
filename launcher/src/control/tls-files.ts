import { type FSWatcher, readFileSync, watch } from "node:fs";
import { dirname } from "node:path";
import { createSecureContext } from "node:tls";

export interface TlsPaths {
  readonly certPath: string;
  readonly keyPath: string;
  readonly caPath: string;
}

export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

/** Reads the three files and proves that they fit together. Throws what Node or OpenSSL says. */
export function readTlsMaterial(paths: TlsPaths): TlsMaterial {
  const material = {
    cert: readFileSync(paths.certPath),
    key: readFileSync(paths.keyPath),
    ca: readFileSync(paths.caPath),
  };
  createSecureContext(material);
  return material;
}

/** How long the files must rest: writers change them one after the other. */
const SETTLE_MS = 200;
/** inotify says nothing on some file systems; this is the latest that a change is seen. */
const POLL_MS = 60_000;

/**
 * Calls `onChange` with each new, consistent state of the files, and `onError` where a new state is unusable.
 * Watches their directories, since Secrets are replaced by renaming a directory link. Dispose to stop.
 */
export function watchTlsFiles(
  paths: TlsPaths,
  current: TlsMaterial,
  listener: { onChange(material: TlsMaterial): void; onError(error: unknown): void },
): Disposable {
  const cleanup = new DisposableStack();
  let known = current;
  const look = () => {
    try {
      const material = readTlsMaterial(paths);
      if (isSame(material, known)) return;
      known = material;
      listener.onChange(material);
    } catch (error) {
      listener.onError(error);
    }
  };
  let settling: NodeJS.Timeout | undefined;
  const touched = () => {
    clearTimeout(settling);
    settling = setTimeout(look, SETTLE_MS);
  };
  cleanup.defer(() => clearTimeout(settling));
  const poll = setInterval(look, POLL_MS).unref();
  cleanup.defer(() => clearInterval(poll));
  for (const directory of new Set([paths.certPath, paths.keyPath, paths.caPath].map((path) => dirname(path)))) {
    const watcher: FSWatcher = watch(directory, { persistent: false }, touched);
    // A directory that goes away is found again by the poll.
    watcher.on("error", () => watcher.close());
    cleanup.defer(() => watcher.close());
  }
  return cleanup;
}

function isSame(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.cert.equals(other.cert) && one.key.equals(other.key) && one.ca.equals(other.ca);
}
