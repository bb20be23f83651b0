import { waitFor } from "../../hack/lib/step.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { AttachDiskRequest } from "../../launcher/api/control.ts";
import type { Guest } from "./guest.ts";

const NAME = "hot";
const TIMEOUT_MS = 120_000;

/** A disk of 64 MiB that is plugged into a running guest and taken out again. What is written to it stays. */
export class HotDisk {
  /** Where the guest finds it. */
  static readonly device = `/dev/disk/by-id/virtio-${NAME}`;
  readonly #guest: Guest;
  readonly #config: AttachDiskRequest;

  private constructor(guest: Guest, path: string) {
    this.#guest = guest;
    this.#config = { name: NAME, readOnly: false, queues: 1, source: { kind: "raw", path } };
  }

  static async make(lab: LinuxLab, guest: Guest): Promise<HotDisk> {
    const path = `${lab.paths.scratch}/hot-${guest.pid}`;
    await lab.run(`truncate -s 64M '${path}'`);
    return new HotDisk(guest, path);
  }

  /** Of a file that the lab has. */
  static of(path: string, guest: Guest): HotDisk {
    return new HotDisk(guest, path);
  }

  async plug(): Promise<void> {
    await this.#guest.launcher.attachDisk(this.#config);
    await this.#guest.console.shell(`udevadm wait --timeout=60 ${HotDisk.device}`, TIMEOUT_MS);
    await this.#reaches("Attached");
  }

  /** Resolves once the guest gave it up and the launcher closed it. */
  async unplug(): Promise<void> {
    await this.#guest.launcher.detachDisk(NAME);
    await this.#reaches(undefined);
    await this.#guest.console.shell(`udevadm wait --removed --timeout=60 ${HotDisk.device}`, TIMEOUT_MS);
  }

  async state(): Promise<string | undefined> {
    const { disks } = await this.#guest.launcher.status();
    return disks?.find(({ name }) => name === NAME)?.state;
  }

  async #reaches(state: string | undefined): Promise<void> {
    const what = `disk ${NAME} to be ${state ?? "gone"}`;
    await waitFor(async () => (await this.state()) === state || undefined, {
      what,
      timeoutMs: TIMEOUT_MS,
      intervalMs: 200,
    });
  }
}
