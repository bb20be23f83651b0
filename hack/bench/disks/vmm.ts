import { join } from "node:path";
import type { DiskSource } from "../../../launcher/api/machine-config.ts";
import { testGuestConfig } from "../bench-launcher.ts";
import { BENCH_MEMORY_BYTES, BenchMachine } from "../bench-machine.ts";

export type Engine = "io_uring" | "threads";
export type Cache = "cached" | "direct";

/** Where the disk's bytes are. */
export interface BenchDisk {
  /** A directory with the file disk.img alone. */
  readonly directory: string;
  /** A block device on another file. */
  readonly device: string;
  readonly sizeBytes: number;
}

/** How one guest is run. */
export interface Vmm {
  readonly name: "launcher" | "QEMU";
  readonly engine: Engine;
  readonly cache: Cache;
}

/** Of the launcher alone. */
export interface LauncherOptions {
  /** Runs a command without io_uring. */
  readonly denier: string;
  /** The longest time to look for the next request; the launcher's default when absent. */
  readonly pollingUs?: number | undefined;
}

/** The test guest under a VMM, with one disk. `directory` is for files of the launcher. */
export function startWithDisk(
  vmm: Vmm,
  disk: BenchDisk,
  directory: string,
  options: LauncherOptions,
): Promise<BenchMachine> {
  return vmm.name === "QEMU" ? startQemu(vmm, disk) : startLauncher(vmm, disk, directory, options);
}

/** Its disk has a thread of its own, which is its fastest way. */
function startQemu({ engine, cache }: Vmm, disk: BenchDisk): Promise<BenchMachine> {
  const file = cache === "cached" ? join(disk.directory, "disk.img") : disk.device;
  const drive = `if=none,id=disk,format=raw,file=${file},cache=${cache === "cached" ? "writeback" : "none"},aio=${engine}`;
  return BenchMachine.startQemu([
    ...["-object", "iothread,id=io", "-drive", drive],
    ...["-device", "virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on"],
  ]);
}

function startLauncher(
  vmm: Vmm,
  disk: BenchDisk,
  directory: string,
  { denier, pollingUs }: LauncherOptions,
): Promise<BenchMachine> {
  const source: DiskSource =
    vmm.cache === "cached"
      ? { kind: "directory", path: disk.directory, sizeBytes: disk.sizeBytes }
      : { kind: "raw", path: disk.device };
  const config = testGuestConfig(directory, 1, {
    memory: { sizeBytes: BENCH_MEMORY_BYTES },
    disks: [{ name: "disk", readOnly: false, queues: 1, source }],
    ...(pollingUs !== undefined && { polling: { windowUs: pollingUs, sharePercent: 50 } }),
  });
  return BenchMachine.startLauncher({
    config,
    directory,
    wrapper: vmm.engine === "threads" ? [denier] : [],
    check: ({ ioEngine }) => {
      if (ioEngine !== vmm.engine) throw new Error(`the launcher uses ${ioEngine}, not ${vmm.engine}`);
    },
  });
}
