import { type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { openFile } from "../../../../launcher/src/sys/file-io.ts";
import { ioctl } from "../../../../launcher/src/sys/ioctl.ts";

// <linux/kvm.h>
const KVM_GET_API_VERSION = 0xae00;
const KVM_API_VERSION = 12;

/** inotify may miss what the kernel does in /dev; this is the latest that a change is seen. */
const POLL_MS = 30_000;
/** A node appears before its permissions are set. */
const SETTLE_MS = 100;

/** Why machines cannot run on this node; undefined where they can. */
export function kvmProblem(path: string): string | undefined {
  try {
    using device = openFile(path, { write: true });
    const version = ioctl(device.fd, "KVM_GET_API_VERSION", KVM_GET_API_VERSION);
    return version === KVM_API_VERSION ? undefined : `${path} speaks API version ${version}, not ${KVM_API_VERSION}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Calls `onChange` when it may be that `path` came, went or changed. Dispose to stop. */
export function watchDevice(path: string, onChange: () => void): Disposable {
  const cleanup = new DisposableStack();
  let settling: NodeJS.Timeout | undefined;
  cleanup.defer(() => clearTimeout(settling));
  const watcher: FSWatcher = watch(dirname(path), { persistent: false }, (_event, name) => {
    if (name !== basename(path)) return;
    clearTimeout(settling);
    settling = setTimeout(onChange, SETTLE_MS);
  });
  watcher.on("error", () => watcher.close());
  cleanup.defer(() => watcher.close());
  const poll = setInterval(onChange, POLL_MS).unref();
  cleanup.defer(() => clearInterval(poll));
  return cleanup;
}
