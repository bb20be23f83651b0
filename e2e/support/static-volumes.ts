import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Kubectl } from "./kubectl.ts";

const MIB = 2 ** 20;

export interface StaticVolume {
  /** Of the claim that it is for, in the namespace of `StaticVolumes`; none takes any. */
  readonly claimName?: string;
  /** On this machine. */
  readonly path: string;
  readonly volumeMode: "Filesystem" | "Block";
  readonly storage: string;
}

/** A file, and the loop device that shows it. */
export interface LoopDevice {
  readonly file: string;
  readonly device: string;
}

/**
 * Volumes made by hand, of a StorageClass whose name no other test uses; this machine is the native node. Disposed of
 * once nothing uses them, that is, after their namespace.
 */
export class StaticVolumes implements AsyncDisposable {
  readonly #kubectl: Kubectl;
  readonly #storageClassName: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "typevisor-volumes-"));
  readonly #cleanup = new AsyncDisposableStack();
  #count = 0;

  constructor(kubectl: Kubectl, storageClassName: string) {
    this.#kubectl = kubectl;
    this.#storageClassName = storageClassName;
    this.#cleanup.defer(() => rmSync(this.#directory, { recursive: true }));
  }

  newDirectory(): string {
    return mkdtempSync(join(this.#directory, "volume-"));
  }

  /** Full of a byte: what an older disk left there. */
  loopDevice(sizeMiB: number, byte = 0): LoopDevice {
    const file = join(this.newDirectory(), "device.img");
    writeFileSync(file, Buffer.alloc(sizeMiB * MIB, byte));
    const device = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
    this.#cleanup.defer(() => void execFileSync("losetup", ["--detach", device]));
    return { file, device };
  }

  async volume({ claimName, path, volumeMode, storage }: StaticVolume): Promise<void> {
    const name = `${this.#storageClassName}-${++this.#count}`;
    const anyNode = { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "Exists" }] };
    await this.#kubectl.apply({
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: {
        ...this.#spec(volumeMode),
        capacity: { storage },
        persistentVolumeReclaimPolicy: "Retain",
        local: { path },
        ...(claimName && { claimRef: { namespace: this.#kubectl.namespace, name: claimName } }),
        nodeAffinity: { required: { nodeSelectorTerms: [anyNode] } },
      },
    });
    this.#cleanup.defer(async () => void (await this.#kubectl.run(["delete", "pv", name, "--ignore-not-found"])));
  }

  /** A volume with the claim that has it. */
  async claim(name: string, volume: Omit<StaticVolume, "claimName">): Promise<void> {
    await this.volume({ ...volume, claimName: name });
    const spec = { ...this.#spec(volume.volumeMode), resources: { requests: { storage: volume.storage } } };
    await this.#kubectl.apply({ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name }, spec });
  }

  /** A loop device with a claim of mode Block. */
  async deviceClaim(name: string, sizeMiB: number, byte = 0): Promise<LoopDevice> {
    const made = this.loopDevice(sizeMiB, byte);
    await this.claim(name, { path: made.device, volumeMode: "Block", storage: `${sizeMiB}Mi` });
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.disposeAsync();
  }

  #spec(volumeMode: StaticVolume["volumeMode"]): object {
    return { accessModes: ["ReadWriteOnce"], volumeMode, storageClassName: this.#storageClassName };
  }
}
