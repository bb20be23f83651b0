import { describe, expect, it } from "@jest/globals";
import { launcherSeccompName, launcherSeccompProfile, launcherSeccompText } from "./profile.ts";

const { syscalls, defaultAction, architectures } = launcherSeccompProfile();
const withoutConditions = syscalls
  .filter(({ action, args }) => action === "SCMP_ACT_ALLOW" && args === undefined)
  .flatMap(({ names }) => names);

describe("the launchers' seccomp profile", () => {
  it("refuses what it does not name", () => {
    expect([defaultAction, architectures]).toEqual(["SCMP_ACT_ERRNO", ["SCMP_ARCH_X86_64"]]);
  });

  it("allows io_uring", () => {
    expect(withoutConditions).toEqual(
      expect.arrayContaining(["io_uring_setup", "io_uring_enter", "io_uring_register", "ioctl", "mmap", "preadv2"]),
    );
  });

  it("allows AIO, as runtimes do", () => {
    expect(withoutConditions).toEqual(
      expect.arrayContaining(["io_setup", "io_submit", "io_getevents", "io_destroy", "writev"]),
    );
  });

  it.each([
    "add_key",
    "bpf",
    "chroot",
    "clone",
    "clone3",
    "finit_module",
    "fsopen",
    "kexec_load",
    "keyctl",
    "mount",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "setns",
    "socket",
    "umount2",
    "unshare",
    "userfaultfd",
  ])("does not allow %s without a condition", (name) => {
    expect(withoutConditions).not.toContain(name);
  });

  it("names each call once", () => {
    expect(new Set(withoutConditions).size).toBe(withoutConditions.length);
    expect(withoutConditions.every((name) => /^[a-z][a-z0-9_]+$/.test(name))).toBe(true);
  });

  it("keeps new namespaces and sockets to the host's hypervisor away", () => {
    const rulesOf = (name: string) => syscalls.filter(({ names }) => names.includes(name));
    const CLONE_NEWUSER = 0x1000_0000;
    const [clone] = rulesOf("clone")[0]?.args ?? [];
    expect(clone).toMatchObject({ index: 0, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" });
    expect((clone?.value ?? 0) & CLONE_NEWUSER).toBe(CLONE_NEWUSER);
    expect(rulesOf("clone3")).toEqual([{ names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38 }]);
    expect(rulesOf("socket").map(({ args }) => args?.[0]?.value)).toEqual([1, 2, 10, 16]);
  });

  it("has a name that says what is in it", () => {
    expect(launcherSeccompName()).toMatch(/^typevisor\/launcher-[0-9a-f]{12}\.json$/);
    expect(JSON.parse(launcherSeccompText())).toEqual(launcherSeccompProfile());
  });
});
