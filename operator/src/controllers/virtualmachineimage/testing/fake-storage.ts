import { type ImportReason, importExitCodes } from "../../../../../launcher/api/import.ts";
import type { FakeApiServer } from "../../../runtime/testing/fake-api-server.ts";
import type { PersistentVolume, PersistentVolumeClaim, Pod } from "../../../runtime/wire.ts";
import { importAnnotations } from "../../claim-import.ts";
import { IMPORT_LABEL, IMPORTER_CONTAINER } from "../names.ts";

/** What an importer does: ends so, or runs on. */
export type Outcome = ImportReason | "killed" | "runs";

const CLASS = "fast";

/**
 * Provisioner, binder, scheduler, kubelet, garbage collector and importers of a small cluster, one step at each tick. It
 * records the sin that no import may commit: a claim with a volume that was not filled.
 */
export class FakeStorage {
  readonly sins: string[] = [];
  /** How importers end, one after another; the last one goes on. */
  outcomes: Outcome[] = ["Completed"];
  attempts = 0;
  /** Of all nodes. */
  taint: string | undefined;
  readonly #server: FakeApiServer;
  readonly #nowMs: () => number;
  readonly #filled = new Set<string>();
  #volumes = 0;

  constructor(server: FakeApiServer, nowMs: () => number) {
    this.#server = server;
    this.#nowMs = nowMs;
    const binding = { volumeBindingMode: "WaitForFirstConsumer" };
    const name = CLASS;
    server.write("storageclasses", { metadata: { name }, provisioner: "csi.example", ...binding } as object);
    server.write("csidrivers", { metadata: { name: "csi.example" } });
  }

  claims(): PersistentVolumeClaim[] {
    return this.#server.all<PersistentVolumeClaim>("persistentvolumeclaims");
  }

  tick(): void {
    for (const claim of this.claims()) this.#stepClaim(claim);
    for (const pod of this.#server.all<Pod>("pods")) this.#stepPod(pod);
    this.#bind();
    this.#collect();
  }

  #stepClaim(claim: PersistentVolumeClaim): void {
    const { name = "", namespace = "", annotations } = claim.metadata ?? {};
    const isBare = claim.spec?.dataSourceRef === undefined && claim.spec?.volumeName === undefined;
    if (!isBare || annotations?.["volume.kubernetes.io/selected-node"] === undefined) return;
    this.#volumes += 1;
    const volumeName = `volume-${this.#volumes}`;
    const claimRef = { namespace, name, uid: claim.metadata?.uid ?? "" };
    this.#server.write("persistentvolumes", { metadata: { name: volumeName }, spec: { claimRef } } as object);
    this.#server.edit<PersistentVolumeClaim>("persistentvolumeclaims", namespace, name, (copy) => {
      copy.spec = { ...copy.spec, volumeName };
      copy.status = { phase: "Bound", capacity: { storage: "1Gi" } };
    });
  }

  /** The binder: volumes that name another claim by now. */
  #bind(): void {
    for (const volume of this.#server.all<PersistentVolume>("persistentvolumes")) {
      const name = volume.metadata?.name ?? "";
      const holder = volume.spec?.claimRef;
      for (const claim of this.claims()) {
        const { namespace = "", name: claimName = "", uid } = claim.metadata ?? {};
        const edit = (change: (copy: PersistentVolumeClaim) => void) =>
          this.#server.edit<PersistentVolumeClaim>("persistentvolumeclaims", namespace, claimName, change);
        if (claim.spec?.volumeName === name && holder?.uid !== uid && claim.status?.phase !== "Lost")
          edit((copy) => {
            copy.status = { phase: "Lost" };
          });
        if (holder?.uid !== uid || claim.spec?.volumeName !== undefined) continue;
        if (!this.#filled.has(name)) this.sins.push(`claim ${claimName} got ${name}, which is not filled`);
        if (claim.metadata?.annotations?.[importAnnotations.volume] !== name)
          this.sins.push(`claim ${claimName} was not told of ${name}`);
        edit((copy) => {
          copy.spec = { ...copy.spec, volumeName: name };
          copy.status = { phase: "Bound", capacity: { storage: "1Gi" } };
        });
      }
    }
  }

  #stepPod(pod: Pod): void {
    const { name = "", namespace = "", deletionTimestamp } = pod.metadata ?? {};
    const edit = (change: (copy: Pod) => void) => this.#server.edit<Pod>("pods", namespace, name, change);
    if (deletionTimestamp !== undefined) {
      this.#server.erase("pods", namespace, name);
      return;
    }
    const claimName = pod.spec?.volumes?.find((volume) => volume.name === "target")?.persistentVolumeClaim?.claimName;
    const prime = this.#server.read<PersistentVolumeClaim>("persistentvolumeclaims", namespace, claimName ?? "");
    const volumeName = prime?.spec?.volumeName;
    if (this.taint !== undefined && !pod.spec?.tolerations?.some(({ key }) => key === this.taint)) return;
    if (pod.status?.phase === undefined && volumeName !== undefined) {
      this.#filled.delete(volumeName);
      this.attempts += 1;
      edit((copy) => {
        copy.spec = { ...copy.spec, containers: copy.spec?.containers ?? [], nodeName: "node-1" };
        copy.status = { phase: "Running", podIP: "10.0.0.1" };
      });
    } else if (pod.status?.phase === "Running") {
      this.#end(pod, volumeName ?? "", edit);
    }
  }

  #end(pod: Pod, volumeName: string, edit: (change: (copy: Pod) => void) => void): void {
    const outcome = this.outcomes[Math.min(this.attempts, this.outcomes.length) - 1] ?? "Completed";
    if (outcome === "runs") return;
    if (outcome === "Completed") this.#filled.add(volumeName);
    const exitCode = outcome === "killed" ? 137 : importExitCodes[outcome];
    const progress = { version: 1, stage: "Finishing", doneBytes: 7, totalBytes: 7, bytesPerSecond: 1, resumed: 0 };
    const word = {
      version: 1,
      reason: outcome,
      message: `because of ${outcome}`,
      progress: { ...progress, format: "qcow2", diskBytes: 2 ** 20 },
    };
    const finishedAt = new Date(this.#nowMs()).toISOString();
    const terminated = { exitCode, finishedAt, ...(outcome === "killed" ? {} : { message: JSON.stringify(word) }) };
    edit((copy) => {
      copy.status = {
        ...copy.status,
        phase: exitCode === 0 ? "Succeeded" : "Failed",
        containerStatuses: [
          { name: IMPORTER_CONTAINER, image: "", imageID: "", ready: false, restartCount: 0, state: { terminated } },
        ],
      };
    });
    if (pod.metadata?.labels?.[IMPORT_LABEL] === undefined) this.sins.push("a pod without its label");
  }

  /** Deletes what belongs to a claim that is gone. */
  #collect(): void {
    for (const plural of ["pods", "persistentvolumeclaims"]) {
      for (const { metadata } of this.#server.all(plural)) {
        const owner = metadata?.ownerReferences?.[0];
        if (owner === undefined || this.claims().some((claim) => claim.metadata?.uid === owner.uid)) continue;
        this.#server.erase(plural, metadata?.namespace ?? "", metadata?.name ?? "");
      }
    }
    // Of volumes only those of claims that are gone.
    for (const { metadata, spec } of this.#server.all<PersistentVolume>("persistentvolumes")) {
      if (this.claims().some((claim) => claim.metadata?.uid === spec?.claimRef?.uid)) continue;
      this.#server.erase("persistentvolumes", "", metadata?.name ?? "");
    }
  }
}
