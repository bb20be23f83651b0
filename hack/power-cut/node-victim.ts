import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Guest, startGuest } from "../../e2e/linux/guest.ts";
import type { DiskSource } from "../../launcher/api/machine-config.ts";
import { buildTestGuest } from "../../launcher/src/machine/testing/test-guest.ts";
import type { ConsoleUser } from "../lib/guest-console.ts";
import type { LinuxLab } from "../linux-lab/lab.ts";
import type { Victim } from "./cut-power.ts";
import { DISK_BYTES, type DiskKind } from "./launcher-victim.ts";

/** The lab's node: its kernel and page cache go with it, so that only what was flushed is left. */
export class NodeVictim implements Victim {
  readonly name = "a node";
  readonly disks = ["Filesystem", "Block"] as const satisfies readonly DiskKind[];
  readonly #lab: LinuxLab;
  readonly #directory: string;
  readonly #guests: Guest[] = [];

  private constructor(lab: LinuxLab, directory: string) {
    this.#lab = lab;
    this.#directory = directory;
  }

  static async prepare(lab: LinuxLab): Promise<NodeVictim> {
    const directory = join(lab.paths.scratch, "power-cut");
    const guest = (await readFile(buildTestGuest())).toString("base64");
    await lab.run(`rm -rf ${directory} && mkdir -p ${directory}/claim && base64 -d >${directory}/testguest`, guest);
    await lab.run(`truncate -s ${DISK_BYTES} ${directory}/backing`);
    return new NodeVictim(lab, directory);
  }

  async start(disk: string, command: string): Promise<ConsoleUser> {
    const source = await this.#source(disk);
    // What others have written to the node's disk is not to be what breaks.
    await this.#lab.installLauncher();
    await this.#lab.run("sync");
    const guest = await startGuest(this.#lab, {
      image: "hello",
      change: (config) => ({
        ...config,
        memory: { sizeBytes: 32 << 20 },
        boot: { imageRoot: this.#directory, kernelPath: "/testguest", commandLine: `-- ${command}` },
        disks: [{ name: "data", readOnly: false, queues: 1, source }],
      }),
    });
    this.#guests.push(guest);
    return guest.console;
  }

  async kill(): Promise<void> {
    await this.#lab.restart();
    for (const guest of this.#guests.splice(0)) await guest.ended;
  }

  async readDisk(disk: string, lengthBytes: number): Promise<Buffer> {
    const file = disk === "Block" ? "backing" : "claim/disk.img";
    return Buffer.from(await this.#lab.run(`head -c ${lengthBytes} ${this.#directory}/${file} | base64`), "base64");
  }

  async #source(disk: string): Promise<DiskSource> {
    if (disk === "Filesystem") return { kind: "directory", path: `${this.#directory}/claim`, sizeBytes: DISK_BYTES };
    const path = await this.#lab.run(`losetup --find --show --direct-io=on ${this.#directory}/backing`);
    return { kind: "raw", path: path.trim() };
  }
}
