import { connect } from "node:net";
import { ConsoleUser } from "../lib/guest-console.ts";
import { waitFor } from "../lib/step.ts";
import type { LinuxLab } from "../linux-lab/lab.ts";

/** A guest in the lab, under whichever VMM. */
export interface BenchGuest extends AsyncDisposable {
  readonly console: ConsoleUser;
  /** Process number of the VMM, in the lab. */
  readonly pid: number;
}

/** A shell instead of an init: nothing else runs in the guest. */
export const BENCH_INIT = "init=/bin/bash";
const PROMPT = /root@.*# /;
const BOOT_TIMEOUT_MS = 300_000;

export interface LabQemuOptions {
  /** For its console's socket. */
  readonly directory: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Network namespace of the lab. */
  readonly namespace?: string;
  /** What it has beside its root disk. */
  readonly devices: readonly string[];
}

/** Debian under Debian's QEMU in the lab, on the launcher's kernel, root disk and command line. */
export async function startLabQemu(lab: LinuxLab, options: LabQemuOptions): Promise<BenchGuest> {
  const image = `${lab.paths.guests}/debian`;
  const socketPath = `${options.directory}/console.sock`;
  const wrapper = options.namespace === undefined ? "" : `ip netns exec ${options.namespace}`;
  const line = [
    `exec ${wrapper} qemu-system-x86_64 -enable-kvm -machine q35 -cpu host -smp ${options.cpus} -m ${options.memoryMiB}`,
    "-nodefaults -no-user-config -display none",
    `-chardev socket,id=console,path=${socketPath},server=on,wait=off -device isa-serial,chardev=console`,
    `-object iothread,id=io -drive if=none,id=root,format=raw,file=${image}/disk/disk.img,snapshot=on`,
    "-device virtio-blk-pci,drive=root,iothread=io",
    ...options.devices,
    `-kernel ${image}/boot/vmlinuz -initrd ${image}/boot/initrd.img`,
    `-append 'console=ttyS0 quiet panic=-1 root=/dev/vda rw ${BENCH_INIT}'`,
  ].join(" ");
  await lab.run(`rm -f ${socketPath}`);
  const child = lab.start(`echo $$; ${line}`);
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const isThere = async () => {
    if (child.exitCode !== null) throw new Error(`QEMU ended: ${log}`);
    return (await lab.run(`test -S ${socketPath} && echo yes || true`)) !== "";
  };
  await waitFor(async () => (await isThere()) || undefined, {
    what: "QEMU's console",
    timeoutMs: 60_000,
    intervalMs: 200,
  });
  const pid = Number.parseInt(log, 10);
  const socket = await lab.reach(socketPath);
  const stream = connect(socket.path);
  const console = new ConsoleUser(stream, stream);
  return {
    console,
    pid,
    async [Symbol.asyncDispose]() {
      console.close();
      await lab.run(`kill -KILL ${pid} || true`);
      await ended;
      await socket[Symbol.asyncDispose]();
    },
  };
}

/** Waits for the shell, and makes what programs expect of a system. */
export async function prepareShell({ console }: BenchGuest): Promise<void> {
  await console.see(PROMPT, BOOT_TIMEOUT_MS);
  await console.shell("mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; cd /tmp");
}
