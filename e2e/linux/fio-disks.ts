import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../hack/lib/step.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { DiskConfig } from "../../launcher/api/machine-config.ts";
import type { Guest } from "./guest.ts";

const SIZE_BYTES = 16 << 20;
/** What fio writes to each. */
const WRITTEN = "4M";
const TIMEOUT_MS = 300_000;
const PATTERN = 0x5a;

/** A disk of each kind for a guest, besides its root: what fio writes there, it reads back and compares. */
export class FioDisks implements AsyncDisposable {
  readonly disks: readonly DiskConfig[];
  readonly #lab: LinuxLab;
  readonly #directory: string;
  readonly #device: string;

  private constructor(lab: LinuxLab, directory: string, device: string) {
    const disk = (name: string, source: DiskConfig["source"]): DiskConfig => ({
      name,
      readOnly: false,
      queues: 2,
      source,
    });
    this.#lab = lab;
    this.#directory = directory;
    this.#device = device;
    this.disks = [
      disk("empty", { kind: "empty", path: `${directory}/empty`, sizeBytes: SIZE_BYTES }),
      disk("filesystem", { kind: "directory", path: `${directory}/claim`, sizeBytes: SIZE_BYTES }),
      disk("block", { kind: "raw", path: device }),
      disk("qcow2", { kind: "image", imageRoot: `${directory}/image`, overlayPath: `${directory}/overlay` }),
    ];
  }

  static async make(lab: LinuxLab): Promise<FioDisks> {
    const directory = `${lab.paths.scratch}/fio`;
    await lab.run(`rm -rf ${directory} && mkdir -p ${directory}/claim ${directory}/image/disk`);
    await lab.run(`base64 -d >${directory}/image/disk/disk.qcow2`, (await patternImage()).toString("base64"));
    await lab.run(`truncate -s ${SIZE_BYTES} ${directory}/backing`);
    const device = await lab.run(`losetup --find --show ${directory}/backing`);
    return new FioDisks(lab, directory, device.trim());
  }

  /** All disks at once, past the guest's page cache; each 512 bytes have a checksum of their own. Answers fio's complaints. */
  async writeAndVerify(guest: Guest): Promise<string> {
    return this.#fio(guest, "--do_verify=1");
  }

  /** What an earlier `writeAndVerify` wrote. */
  async verify(guest: Guest): Promise<string> {
    return this.#fio(guest, "--verify_only=1");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lab.run(`losetup --detach ${this.#device} && rm -rf ${this.#directory}`);
  }

  async #fio(guest: Guest, mode: string): Promise<string> {
    const jobs = this.disks.map(({ name }) => `--name=${name} --filename=/dev/disk/by-id/virtio-${name}`);
    const load = `--rw=randwrite --bs=4k --size=${WRITTEN} --ioengine=libaio --iodepth=16 --direct=1 --end_fsync=1`;
    const verify = `--verify=crc32c --verify_interval=512 --verify_fatal=1 --verify_state_save=0 ${mode}`;
    // A complaint is wanted, and no figures nor progress, which fio draws on terminals.
    return await guest.console.shell(
      `fio --eta=never --output=/run/fio ${load} ${verify} ${jobs.join(" ")} 2>&1 || cat /run/fio`,
      TIMEOUT_MS,
    );
  }
}

/** A qcow2 image of one pattern, compressed. */
async function patternImage(): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), "fio-disks-"));
  try {
    const [raw, image] = [join(directory, "raw"), join(directory, "image")];
    await writeFile(raw, new Uint8Array(SIZE_BYTES).fill(PATTERN));
    await run(["qemu-img", "convert", "-c", "-O", "qcow2", raw, image]);
    return await readFile(image);
  } finally {
    await rm(directory, { recursive: true });
  }
}
