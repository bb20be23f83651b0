import { ioctl } from "../sys/ioctl.ts";
import type { Pointer } from "../sys/libc.ts";
import { type RequestName, requests } from "./layouts.ts";

/** An ioctl of KVM, by its name; interrupted ones are repeated. Throws SysError. */
export function kvmIoctl(fd: number, name: RequestName, argument: Pointer = null): number {
  return ioctl(fd, name, requests[name], argument);
}
