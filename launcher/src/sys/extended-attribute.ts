import { check } from "./errors.ts";
import { cString } from "./file-io.ts";
import { libc } from "./libc.ts";

/** Sets an extended attribute of what `path` leads to, such as "security.selinux". Throws SysError. */
export function setExtendedAttribute(path: string, name: string, value: Uint8Array): void {
  check("setxattr", libc().setxattr(cString(path), cString(name), value, value.length, 0), path);
}
