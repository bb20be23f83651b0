import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { DiskConfig, MachineConfig } from "../../launcher/api/machine-config.ts";

/** Larger than the image, as claims are. */
const SIZE_BYTES = 1 << 30;

/** Where the image has its EFI system partition. */
const ESP = { startMiB: 4, sizeMiB: 124 } as const;

/** A Filesystem claim that a cloud image was imported into, and a seed for cloud-init: both outlast any guest. */
export class CloudClaim {
  #instanceId = randomUUID();
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async make(lab: LinuxLab, userData: string, networkData: string): Promise<CloudClaim> {
    const directory = join(lab.paths.scratch, `cloud-${randomUUID().slice(0, 8)}`);
    const claim = new CloudClaim(directory);
    const image = `${lab.paths.guests}/debian-cloud/disk/disk.img`;
    await lab.run(`mkdir -p ${directory}/claim && cp --sparse=always ${image} ${directory}/claim/disk.img`);
    await lab.run(`cat >${directory}/user-data`, userData);
    await claim.#writeNetwork(lab, networkData);
    return claim;
  }

  /** Changes the seed, for launchers that read it from now on. A new instance: for others cloud-init does not look at it. */
  async changeNetwork(lab: LinuxLab, networkData: string): Promise<void> {
    this.#instanceId = randomUUID();
    await this.#writeNetwork(lab, networkData);
  }

  async #writeNetwork(lab: LinuxLab, networkData: string): Promise<void> {
    await lab.run(`cat >${this.#directory}/network-data && sync`, networkData);
  }

  get instanceId(): string {
    return this.#instanceId;
  }

  get seed(): DiskConfig {
    return {
      name: "seed",
      readOnly: true,
      queues: 1,
      source: {
        kind: "cloudInit",
        userDataPath: `${this.#directory}/user-data`,
        networkDataPath: `${this.#directory}/network-data`,
        instanceId: this.#instanceId,
        localHostname: "keeper",
      },
    };
  }

  /** A disk that is the image's EFI system partition and nothing else: firmware can boot it, too. Answers its path. */
  async makeLoaderDisk(lab: LinuxLab): Promise<string> {
    const path = `${this.#directory}/loader`;
    const part = `bs=1M skip=${ESP.startMiB} count=${ESP.sizeMiB} status=none`;
    await lab.run(`dd if=${this.#directory}/claim/disk.img of=${path} ${part} && sync`);
    return path;
  }

  /** Gives a machine these disks alone. */
  readonly change = (config: MachineConfig): MachineConfig => ({
    ...config,
    disks: [
      {
        name: "root",
        readOnly: false,
        queues: 1,
        source: { kind: "directory", path: `${this.#directory}/claim`, sizeBytes: SIZE_BYTES },
      },
      this.seed,
    ],
  });
}
