import { existsSync } from "node:fs";
import { setExtendedAttribute } from "../../../../launcher/src/sys/extended-attribute.ts";
import type { Logger } from "../../runtime/logger.ts";

/** Present exactly where SELinux is on. */
const SELINUX_PATH = "/sys/fs/selinux/enforce";
/** What containers may use: the kubelet does not label mounts that come from a device plugin. */
const CONTAINER_FILE = "system_u:object_r:container_file_t:s0";

/** Labels paths for containers on nodes with SELinux; does nothing on others. */
export function selinuxLabeller(
  log: Logger,
  {
    isOn = () => existsSync(SELINUX_PATH),
    setAttribute = setExtendedAttribute,
  }: { isOn?: () => boolean; setAttribute?: typeof setExtendedAttribute } = {},
): (path: string) => void {
  if (!isOn()) return () => {};
  return (path) => {
    try {
      setAttribute(path, "security.selinux", Buffer.from(`${CONTAINER_FILE}\0`));
    } catch (error) {
      log.warn({ err: error, path, reason: "NotLabelled" }, `cannot be labelled ${CONTAINER_FILE}; label it by policy`);
    }
  };
}
