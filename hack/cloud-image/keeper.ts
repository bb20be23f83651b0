import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestCluster } from "../../e2e/support/cluster.ts";
import { eventually } from "../../e2e/support/eventually.ts";
import type { Kubectl, KubeObject } from "../../e2e/support/kubectl.ts";
import { podOf } from "../../e2e/support/vm.ts";
import { firmwareFile } from "../images/firmware.ts";
import { ConsoleEnded, ConsoleTimeout } from "../lib/guest-console.ts";
import { run, say } from "../lib/step.ts";
import { emulatedFirmwareDirectory } from "../linux-lab/emulated-firmware.ts";
import { MachineConsole } from "./machine-console.ts";
import { MACHINE, manifests, type ServedImage } from "./manifests.ts";

const root = join(import.meta.dirname, "..", "..");
const NAMESPACE = "cloud";
const PROMPT = /root@keeper:~# /;
/** Of a whole guest, on a node that is emulated. */
export const BOOT_MS = 1_800_000;
/** Until its guest runs, import and pod included. */
export const RUNS_MS = 900_000;
/** A guest that says nothing for so long has met a fault of the emulated node; it is started again, twice at most. */
const SILENCE_MS = 600_000;
const MAXIMUM_STARTS = 3;

interface Place {
  readonly clusterName: string;
  readonly cluster: TestCluster;
  /** Where the guest runs. */
  readonly node: string;
}

/** The machine whose disk was imported, and what is done to it. */
export class Keeper implements Disposable {
  readonly namespace = NAMESPACE;
  readonly kubectl: Kubectl;
  /** Starts of a guest that had fallen silent. */
  extraStarts = 0;
  readonly #place: Place;
  #console: MachineConsole | undefined;
  #vm: KubeObject | undefined;

  private constructor(place: Place, kubectl: Kubectl) {
    this.#place = place;
    this.kubectl = kubectl;
  }

  static async make(place: Place): Promise<Keeper> {
    await place.cluster.dropNamespace(NAMESPACE);
    const keeper = new Keeper(place, await place.cluster.namespace(NAMESPACE));
    await keeper.#replaceFirmware();
    return keeper;
  }

  /** The one that is there. */
  static async find(place: Place): Promise<Keeper> {
    const keeper = new Keeper(place, await place.cluster.namespace(NAMESPACE));
    await keeper.nextRun();
    return keeper;
  }

  async apply(image: ServedImage): Promise<void> {
    for (const manifest of manifests(image, this.#place.node)) await this.kubectl.apply(manifest);
  }

  /** As it was when its last start was seen. */
  get vm(): KubeObject {
    if (this.#vm === undefined) throw new Error("the machine has not run yet");
    return this.#vm;
  }

  get console(): MachineConsole {
    return this.#console ?? this.openConsole();
  }

  openConsole(): MachineConsole {
    this.#console?.[Symbol.dispose]();
    this.#console = MachineConsole.open(this.kubectl, MACHINE);
    return this.#console;
  }

  /** Waits for the machine to run, in another pod than before. */
  async nextRun(): Promise<KubeObject> {
    const before = this.#vm?.status.podUID;
    const vm = await eventually("the machine to run", RUNS_MS, async () => {
      const seen = await this.kubectl.get("vm", MACHINE);
      if (seen?.status.phase === "Running" && seen.status.podUID !== before) return seen;
      throw new Error(JSON.stringify(seen?.status.conditions));
    });
    this.#vm = vm;
    return vm;
  }

  /** Waits for the shell of root, and until nobody else writes on the console. */
  async boots(): Promise<void> {
    for (let start = 1; ; start++) {
      const problem = await this.shows(PROMPT);
      if (problem === undefined) {
        await this.console.shell("dmesg --console-off; cloud-init status --wait >/dev/null", BOOT_MS);
        return;
      }
      if (start === MAXIMUM_STARTS) throw new Error(problem);
      say(`${problem}; starting it again (${start + 1} of ${MAXIMUM_STARTS})`);
      this.extraStarts++;
      await this.kubectl.run(["delete", "pod", podOf(MACHINE), "--force", "--grace-period=0"]);
      await this.nextRun();
    }
  }

  /**
   * Undefined once the guest's console shows `pattern`; else what is wrong. A console that ends is opened again: kubelets of
   * emulated nodes are slow, and drop what takes them long.
   */
  async shows(pattern: RegExp): Promise<string | undefined> {
    const deadlineMs = performance.now() + BOOT_MS;
    let console = this.openConsole();
    for (;;) {
      try {
        await console.see(pattern, 1000);
        return undefined;
      } catch (error) {
        if (performance.now() > deadlineMs) return String(error);
        if (error instanceof ConsoleEnded) console = this.openConsole();
        else if (!(error instanceof ConsoleTimeout)) throw error;
      }
      if (console.silentMs > SILENCE_MS)
        return `the guest was silent for ${SILENCE_MS / 1000} s: ${console.text.slice(-1000)}`;
    }
  }

  /** SIGKILL, which nothing in the pod is asked about. */
  async killLauncher(): Promise<void> {
    const uid = this.vm.status.podUID;
    const isOurs = `grep -q ${uid} $p/cgroup && tr '\\0' ' ' <$p/cmdline | grep -q 'launcher.* run '`;
    const killed = await this.#onNode(
      `for p in /proc/[0-9]*; do if ${isOurs}; then kill -KILL \${p#/proc/} && echo killed; fi; done`,
    );
    if (killed.trim() !== "killed") throw new Error(`one launcher was to be killed, and it was: "${killed}"`);
  }

  /** Ends the node's virtual machine without a word to it, and starts it again. */
  cutPowerOfNode(): Promise<void> {
    return this.#place.cluster.restart(this.#place.node);
  }

  [Symbol.dispose](): void {
    this.#console?.[Symbol.dispose]();
  }

  /** The firmware in the launcher's image stops emulated nodes. Guests that start from now on get the one that does not. */
  async #replaceFirmware(): Promise<void> {
    const firmware = await readFile(join(await emulatedFirmwareDirectory(), firmwareFile));
    const layers = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
    const put = `find ${layers} -name ${firmwareFile} -exec cp /tmp/firmware {} \\; -print`;
    const replaced = await this.#onNode(`cat >/tmp/firmware && ${put} && sync`, firmware);
    if (!replaced.includes(firmwareFile)) throw new Error(`no image on ${this.#place.node} has ${firmwareFile}`);
  }

  #onNode(line: string, input?: Buffer): Promise<string> {
    const { clusterName, node } = this.#place;
    return run([join(root, "hack/cluster"), "--name", clusterName, "ssh", node, line], {
      ...(input === undefined ? {} : { input }),
      timeoutMs: 120_000,
    });
  }
}
