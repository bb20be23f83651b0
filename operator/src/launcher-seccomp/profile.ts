import { createHash } from "node:crypto";

/** A filter of system calls as container runtimes read it (OCI runtime specification, section "Seccomp"). */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly { index: number; value: number; valueTwo?: number; op: string }[];
}

const EPERM = 1;
const ENOSYS = 38;
/** CLONE_NEW* for mount, cgroup, uts, ipc, user, pid and network namespaces (clone(2)). */
const CLONE_NAMESPACES = 0x7e02_0000;
/** AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. */
const SOCKET_FAMILIES = [1, 2, 10, 16];

/** What Node, the launcher and what is executed in its container may call; by purpose. */
const allowed = {
  files: `access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate getcwd getdents getdents64 getxattr inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr
    lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir
    sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink
    unlinkat utime utimensat utimes vmsplice write writev`,
  memory: `brk cachestat madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect`,
  processes: `arch_prctl capget capset execve execveat exit exit_group fork getegid geteuid getgid getgroups getpgid
    getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid pidfd_open
    pidfd_send_signal prctl prlimit64 seccomp setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid
    setresuid setreuid setrlimit setsid setuid times vfork wait4 waitid`,
  threads: `futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu ioprio_get
    ioprio_set rseq sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield set_robust_list set_thread_area set_tid_address`,
  signals: `alarm kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill`,
  time: `clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime`,
  events: `epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll pselect6
    select`,
  sockets: `accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto setsockopt shutdown socketpair`,
  system: "getrandom sysinfo uname",
  /** AIO, for frames. */
  frames: "io_destroy io_getevents io_setup io_submit",
  /** For this the profile is there: runtimes forbid it in their own. */
  disks: "io_uring_enter io_uring_register io_uring_setup",
};

/**
 * The launcher's own filter: io_uring for its disks, and for all else less than what container runtimes allow by
 * default. Notably absent: ptrace, process_vm_*, keyctl, bpf, perf_event_open, userfaultfd, mount and namespaces.
 */
export function launcherSeccompProfile(): SeccompProfile {
  const allow = (names: readonly string[], args?: SeccompRule["args"]): SeccompRule => ({
    names,
    action: "SCMP_ACT_ALLOW",
    ...(args && { args }),
  });
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: EPERM,
    // No 32-bit calls: nothing in the image makes any.
    architectures: ["SCMP_ARCH_X86_64"],
    syscalls: [
      ...Object.values(allowed).map((names) => allow(names.split(/\s+/))),
      allow(["clone"], [{ index: 0, value: CLONE_NAMESPACES, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }]),
      // Its flags are in memory, where no filter sees them; the C library then takes clone.
      { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
      ...SOCKET_FAMILIES.map((value) => allow(["socket"], [{ index: 0, value, op: "SCMP_CMP_EQ" }])),
    ],
  };
}

/** The profile as a file. */
export function launcherSeccompText(): string {
  return `${JSON.stringify(launcherSeccompProfile(), null, 1)}\n`;
}

/**
 * Name of the file below the kubelet's directory of profiles, as pods name it (`localhostProfile`). It changes with the
 * contents: a pod never gets another version's profile, and an upgrade that changes nothing needs no new file.
 */
export function launcherSeccompName(): string {
  const digest = createHash("sha256").update(launcherSeccompText()).digest("hex").slice(0, 12);
  return `typevisor/launcher-${digest}.json`;
}
