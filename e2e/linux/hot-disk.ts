import { waitFor } from "../../hack/lib/step.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { AttachDiskRequest } from "../../launcher/api/control.ts";
import type { Guest } from "./guest.ts";

const NAME = "hot";
const TIMEOUT_MS = 120_000;

const deviceOf = (name: string) => `/dev/disk/by-id/virtio-${name}`;

/** A disk that is plugged into a running guest and taken out again. What is written to it stays. */
export class HotDisk {
  /** Where the guest finds it, unless it has a name of its own. */
  static readonly device = deviceOf(NAME);
  readonly #guest: Guest;
  readonly #config: AttachDiskRequest;

  constructor(guest: Guest, config: AttachDiskRequest) {
    this.#guest = guest;
    this.#config = config;
  }

  /** Of 64 MiB. */
  static async make(lab: LinuxLab, guest: Guest): Promise<HotDisk> {
    const path = `${lab.paths.scratch}/hot-${guest.pid}`;
    await lab.run(`truncate -s 64M '${path}'`);
    return new HotDisk(guest, { name: NAME, readOnly: false, queues: 1, source: { kind: "raw", path } });
  }

  async plug(): Promise<void> {
    await this.#guest.launcher.attachDisk(this.#config);
    await this.#guest.console.shell(`udevadm wait --timeout=60 ${this.device}`, TIMEOUT_MS);
    await this.#reaches("Attached");
  }

  /** Resolves once the guest gave it up and the launcher closed it. */
  async unplug(): Promise<void> {
    await this.#guest.launcher.detachDisk(this.#config.name);
    await this.#reaches(undefined);
    await this.#guest.console.shell(`udevadm wait --removed --timeout=60 ${this.device}`, TIMEOUT_MS);
  }

  async state(): Promise<string | undefined> {
    const { disks } = await this.#guest.launcher.status();
    return disks?.find(({ name }) => name === this.#config.name)?.state;
  }

  /** Where the guest finds it. */
  get device(): string {
    return deviceOf(this.#config.name);
  }

  async #reaches(state: string | undefined): Promise<void> {
    const what = `disk ${this.#config.name} to be ${state ?? "gone"}`;
    await waitFor(async () => (await this.state()) === state || undefined, {
      what,
      timeoutMs: TIMEOUT_MS,
      intervalMs: 200,
    });
  }
}
