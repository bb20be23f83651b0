/**
 * fio in a Linux guest, under our launcher and under Debian's QEMU, in turn: the same kernel, root disk, jobs and storage,
 * in the same lab (hack/linux-lab). One disk is a file in the lab's page cache, the other a loop device on memory by direct
 * I/O; fio goes past the guest's own page cache. In an emulated node only the ratios mean something. Build first:
 * hack/build launcher.
 *
 *   node hack/bench/fio.ts [--rounds 2] [--seconds 5] [--size-mib 64] [--only REGEX]
 *                                            a table on standard error, JSON on standard output
 * --only: loads whose name it matches.
 */
import { parseArgs } from "node:util";
import { startGuest } from "../../e2e/linux/guest.ts";
import { say } from "../lib/step.ts";
import type { LinuxLab } from "../linux-lab/lab.ts";
import { openLab } from "../linux-lab/open.ts";
import { MIB } from "./bench-launcher.ts";
import { BENCH_INIT, type BenchGuest, prepareShell, startLabQemu } from "./lab-qemu.ts";
import { median, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "2" },
    seconds: { type: "string", default: "5" },
    "size-mib": { type: "string", default: "64" },
    only: { type: "string", default: "" },
  },
});
const sizeBytes = Number(values["size-mib"]) * MIB;
const seconds = Number(values.seconds);
const MEMORY_MIB = 384;
const JOB_TIMEOUT_MS = 120_000 + seconds * 10_000;

/** In the guest, behind its root. */
const disks = { cached: "/dev/vdb", direct: "/dev/vdc" } as const;
type Cache = keyof typeof disks;
const caches: readonly Cache[] = ["cached", "direct"];

interface Load {
  readonly name: string;
  readonly cache: Cache;
  readonly options: string;
}

const loads: readonly Load[] = caches
  .flatMap((cache) =>
    [
      ...[1, 32].flatMap((depth) =>
        ["read", "write"].map((what) => ({
          name: `4 KiB random ${what}, depth ${depth}, ${cache}`,
          options: `--rw=rand${what} --bs=4k --iodepth=${depth}`,
        })),
      ),
      ...["read", "write"].map((what) => ({
        name: `1 MiB sequential ${what}, depth 4, ${cache}`,
        options: `--rw=${what} --bs=1m --iodepth=4`,
      })),
    ].map((load) => ({ ...load, cache })),
  )
  .filter(({ name }) => new RegExp(values.only).test(name));

/** Where the disks' bytes are, in the lab. */
interface Storage {
  readonly directory: string;
  readonly device: string;
}

async function prepare(lab: LinuxLab): Promise<Storage> {
  const directory = `${lab.paths.scratch}/bench-fio`;
  const backing = "/dev/shm/bench-fio";
  await lab.run(`rm -rf ${directory} && mkdir -p ${directory}/claim`);
  for (const path of [`${directory}/claim/disk.img`, backing])
    await lab.run(`head -c ${sizeBytes} /dev/zero | tr '\\0' x >${path}`);
  const device = await lab.run(`losetup --find --show --direct-io=on ${backing}`);
  return { directory, device: device.trim() };
}

async function cleanUp(lab: LinuxLab, { directory, device }: Storage): Promise<void> {
  await lab.run(`losetup --detach ${device}; rm -rf ${directory} /dev/shm/bench-fio`);
}

type Vmm = "launcher" | "QEMU";
const vmms: readonly Vmm[] = ["launcher", "QEMU"];

function startLauncher(lab: LinuxLab, { directory, device }: Storage): Promise<BenchGuest> {
  const common = { readOnly: false, queues: 1 };
  return startGuest(lab, {
    image: "debian",
    memoryMiB: MEMORY_MIB,
    commandLine: BENCH_INIT,
    change: (config) => ({
      ...config,
      disks: [
        ...config.disks,
        { ...common, name: "cached", source: { kind: "directory", path: `${directory}/claim`, sizeBytes } },
        { ...common, name: "direct", source: { kind: "raw", path: device } },
      ],
    }),
  });
}

/** Its disks have an I/O thread, which is its fastest way. */
function startQemu(lab: LinuxLab, { directory, device }: Storage): Promise<BenchGuest> {
  const disk = (id: string, drive: string) =>
    `-drive if=none,id=${id},format=raw,aio=io_uring,${drive} -device virtio-blk-pci,drive=${id},iothread=io`;
  return startLabQemu(lab, {
    directory,
    cpus: 1,
    memoryMiB: MEMORY_MIB,
    devices: [
      disk("cached", `file=${directory}/claim/disk.img,cache=writeback`),
      disk("direct", `file=${device},cache=none`),
    ],
  });
}

/** Requests a second, of fio's terse output (version 3). */
async function runLoad({ console }: BenchGuest, { cache, options, name }: Load): Promise<number> {
  const job = `--name=job --filename=${disks[cache]} --size=${sizeBytes} ${options} --ioengine=libaio --direct=1`;
  const timing = `--time_based --runtime=${seconds} --ramp_time=1`;
  const output = "--output-format=terse --terse-version=3 --eta=never";
  const text = await console.shell(`fio ${job} ${timing} ${output} 2>&1`, JOB_TIMEOUT_MS);
  const fields =
    text
      .split("\n")
      .find((line) => line.startsWith("3;"))
      ?.split(";") ?? [];
  const [, , , , error] = fields;
  const requests = Math.max(Number(fields[7]), Number(fields[48]));
  if (error !== "0" || !(requests > 0)) throw new Error(`fio, ${name}: ${text}`);
  return requests;
}

async function measureAll(lab: LinuxLab, storage: Storage): Promise<Map<string, number[]>> {
  const results = new Map<string, number[]>();
  for (let turn = 1; turn <= Number(values.rounds); turn++)
    for (const vmm of vmms) {
      say(`round ${turn}: ${vmm}`);
      await using guest = await (vmm === "launcher" ? startLauncher(lab, storage) : startQemu(lab, storage));
      await prepareShell(guest);
      for (const load of loads) {
        const requests = await runLoad(guest, load);
        say(`${vmm}, ${load.name}: ${round(requests, 0)} requests a second`);
        const key = `${vmm} ${load.name}`;
        results.set(key, [...(results.get(key) ?? []), requests]);
      }
    }
  return results;
}

const lab = await openLab();
const storage = await prepare(lab);
try {
  const results = await measureAll(lab, storage);
  const rows = loads.map(({ name }) => {
    const [launcher, qemu] = vmms.map((vmm) => median(results.get(`${vmm} ${name}`) ?? []));
    return {
      load: name,
      launcher: round(launcher ?? Number.NaN, 0),
      QEMU: round(qemu ?? Number.NaN, 0),
      ratio: round((launcher ?? Number.NaN) / (qemu ?? Number.NaN), 2),
    };
  });
  console.error(table(rows));
  const qemu = (await lab.run("qemu-system-x86_64 --version")).split("\n")[0];
  console.log(
    JSON.stringify({ lab: lab.kind, qemu, sizeBytes, seconds, rows, all: Object.fromEntries(results) }, null, 2),
  );
} finally {
  await cleanUp(lab, storage);
}
