import { SysError } from "../sys/errors.ts";
import { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { KvmUnavailable } from "./kvm-unavailable.ts";
import { type CapabilityName, capabilities, constants } from "./layouts.ts";

/** Each is asked of the host before a machine is made; the value is the Linux version that brought it. */
const REQUIRED: Partial<Readonly<Record<CapabilityName, string>>> = {
  KVM_CAP_IRQCHIP: "2.6.20",
  KVM_CAP_USER_MEMORY: "2.6.24",
  KVM_CAP_SET_TSS_ADDR: "2.6.24",
  KVM_CAP_EXT_CPUID: "2.6.26",
  KVM_CAP_MP_STATE: "2.6.26",
  KVM_CAP_PIT2: "2.6.32",
  KVM_CAP_IOEVENTFD: "2.6.32",
  KVM_CAP_SET_IDENTITY_MAP_ADDR: "2.6.32",
  KVM_CAP_ADJUST_CLOCK: "2.6.33",
  KVM_CAP_VCPU_EVENTS: "2.6.33",
  KVM_CAP_DEBUGREGS: "2.6.35",
  KVM_CAP_XSAVE: "2.6.36",
  KVM_CAP_SIGNAL_MSI: "3.5",
  KVM_CAP_IMMEDIATE_EXIT: "4.11",
};

/** Opens the KVM device of the host. Throws KvmUnavailable, which says why not and what to do. */
export function openKvm(path: string): OwnedFd {
  try {
    return openFile(path, { write: true });
  } catch (error) {
    throw new KvmUnavailable(`${path} cannot be opened: ${wayOut(path, error)}`, { cause: error });
  }
}

function wayOut(path: string, error: unknown): string {
  switch (error instanceof SysError ? error.code : "") {
    case "ENOENT":
      return "it does not exist. Load the module kvm_intel or kvm_amd, and switch virtualization on in the firmware (or nested virtualization in the cloud)";
    case "EACCES":
    case "EPERM":
      return `permission denied. Give this process's user or group access to ${path}, or ask the node agent for it`;
    case "ENODEV":
      return "the host's processor or its firmware does not let KVM run. Switch virtualization on in the firmware";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

/** /dev/kvm: what holds for all machines of this host. It does not own the descriptor. */
export class KvmSystem {
  readonly fd: number;

  /** Checks that the host's KVM has all that is needed. Throws KvmUnavailable. */
  constructor(fd: number) {
    this.fd = fd;
    this.#checkVersion();
    const missing = Object.entries(REQUIRED).find(([name]) => this.capability(name as CapabilityName) === 0);
    if (missing)
      throw new KvmUnavailable(
        `KVM on this host lacks ${missing[0]}. Use a node with Linux ${missing[1]} or newer and hardware virtualization`,
      );
  }

  #checkVersion(): void {
    let version: number;
    try {
      version = kvmIoctl(this.fd, "KVM_GET_API_VERSION");
    } catch (error) {
      throw new KvmUnavailable("the file given as the KVM device is none. Give /dev/kvm", { cause: error });
    }
    if (version !== constants.KVM_API_VERSION)
      throw new KvmUnavailable(`KVM speaks API version ${version}, not ${constants.KVM_API_VERSION}. Update Linux`);
  }

  /** What the host answers for a capability: 0 is no; above is yes, or a number with a meaning of its own. */
  capability(name: CapabilityName): number {
    return kvmIoctl(this.fd, "KVM_CHECK_EXTENSION", capabilities[name]);
  }

  /** Bytes to map of each vCPU for kvm_run and what follows it. */
  runPageBytes(): number {
    return kvmIoctl(this.fd, "KVM_GET_VCPU_MMAP_SIZE");
  }

  /** Which page of a vCPU's mapping is the ring of coalesced port writes; 0 where the host has none. */
  coalescedPortsPage(): number {
    return this.capability("KVM_CAP_COALESCED_PIO") > 0 ? this.capability("KVM_CAP_COALESCED_MMIO") : 0;
  }

  /** An empty machine. Throws KvmUnavailable where the host refuses one more. */
  createVm(): OwnedFd {
    try {
      return new OwnedFd(kvmIoctl(this.fd, "KVM_CREATE_VM"));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new KvmUnavailable(`KVM makes no machine: ${reason}. See the node's kernel log`, { cause: error });
    }
  }
}
