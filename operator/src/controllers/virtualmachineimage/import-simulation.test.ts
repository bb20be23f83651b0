import { describe, expect, it } from "@jest/globals";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import { endNamespace } from "../../runtime/testing/namespace-end.ts";
import type { PersistentVolumeClaim, Pod } from "../../runtime/wire.ts";
import type { StoredImage } from "./observation.ts";
import { ImportSimulation } from "./testing/import-simulation.ts";

const entry = (simulation: ImportSimulation, name = "root") =>
  simulation.status()?.imports?.find((candidate) => candidate.claimName === name);
const condition = (simulation: ImportSimulation, type: string) =>
  simulation.status()?.conditions?.find((candidate) => candidate.type === type);
const isBound = (simulation: ImportSimulation, name = "root") =>
  simulation.claim(name)?.status?.phase === "Bound" && entry(simulation, name)?.phase === "Completed";
const leftovers = ({ server }: ImportSimulation) => [
  ...server.all("pods"),
  ...server
    .all<PersistentVolumeClaim>("persistentvolumeclaims")
    .filter(({ metadata }) => metadata?.name?.startsWith("prime-")),
];

/** An import that fails in a way that passes, and then does not. */
async function life(simulation: ImportSimulation): Promise<void> {
  simulation.storage.outcomes = ["SourceUnreachable", "killed", "Completed"];
  simulation.createImage();
  simulation.createClaim();
  await simulation.until("the claim is bound", () => isBound(simulation));
  await simulation.until("nothing is left", () => leftovers(simulation).length === 0);
}

describe("an import", () => {
  it("fills a claim after failures with back-off, tells of it, and leaves nothing behind", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["SourceUnreachable", "SourceUnreachable", "Completed"];
    simulation.createImage();
    simulation.createClaim();
    const startedMs = simulation.clock.now();
    await simulation.until("it is tried again", () => entry(simulation)?.phase === "Retrying");
    expect(condition(simulation, "Ready")).toMatchObject({ status: "False", reason: "SourceUnreachable" });
    expect(condition(simulation, "Reconciling")).toMatchObject({ status: "True" });
    expect(condition(simulation, "Stalled")).toMatchObject({ status: "False" });
    await simulation.until("the claim is bound", () => isBound(simulation));
    // 10 and 20 seconds.
    expect(simulation.clock.now() - startedMs).toBeGreaterThanOrEqual(30_000);
    await simulation.until("nothing is left", () => leftovers(simulation).length === 0);
    expect(simulation.storage).toMatchObject({ attempts: 3, sins: [] });
    expect(simulation.status()).toMatchObject({ format: "qcow2", sourceSize: "7", virtualSize: "1Mi" });
    expect(condition(simulation, "Ready")).toMatchObject({ status: "True", reason: "AsExpected" });
    expect(simulation.events.map(({ reason }) => reason)).toEqual([
      "Importing",
      "SourceUnreachable",
      "Importing",
      "SourceUnreachable",
      "Importing",
      "ImportCompleted",
    ]);
  });

  it.each([
    ["while the pod that failed is there", false],
    ["when that is gone", true],
  ])(
    "is tried again by the operator's own clock where the one before it was ten minutes ahead, %s",
    async (_, isGone) => {
      await using simulation = await ImportSimulation.start();
      simulation.storage.outcomes = ["SourceUnreachable", "Completed"];
      simulation.createImage();
      simulation.createClaim();
      await simulation.until("it is to be tried again", () => entry(simulation)?.phase === "Retrying");
      const startedMs = simulation.clock.now();
      const ahead = new Date(startedMs + 610_000).toISOString().replace(/\.\d+Z$/, "Z");
      simulation.server.edit<StoredImage>("virtualmachineimages", "shop", "debian", ({ status }) => {
        for (const each of status?.imports ?? []) Object.assign(each, { nextAttemptTime: ahead });
      });
      if (isGone)
        for (const { metadata } of simulation.server.all<Pod>("pods"))
          simulation.server.erase("pods", "shop", metadata?.name ?? "");
      await simulation.until("the claim is bound", () => isBound(simulation));
      expect(simulation.clock.now() - startedMs).toBeLessThan(60_000);
      expect(simulation.storage).toMatchObject({ attempts: 2, sins: [] });
    },
  );

  it("shows how far it is, on the image and on the claim", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["runs"];
    simulation.createImage();
    simulation.createClaim();
    await simulation.until(
      "progress shows",
      () => simulation.status()?.progress !== undefined && entry(simulation)?.rate !== undefined,
    );
    expect(simulation.status()).toMatchObject({ progress: "42% 120Mi/s", virtualSize: "2Gi", sourceSize: "1000Mi" });
    expect(entry(simulation)).toMatchObject({
      progress: "42%",
      rate: "120Mi/s",
      transferred: "420Mi",
      message: "420Mi of 1000Mi",
    });
    const marks = () => simulation.claim()?.metadata?.annotations?.["typevisor.io/import-state"];
    expect(marks()).toBe("Importing (40%)");
    const before = simulation.operator.writes;
    await simulation.until("time has passed", () => simulation.clock.monotonic() > 120_000);
    // What stays the same is not written again.
    expect(simulation.operator.writes).toBe(before);
  });

  it.each(["before", "after"] as const)(
    "goes the same way when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const start = () => ImportSimulation.start();
      const { lives, failures } = await killedAtEachWrite(when, start, {
        live: life,
        sins: ({ storage: { attempts, sins } }) => [...sins, ...(attempts === 3 ? [] : [`${attempts} attempts`])],
      });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(10);
    },
    120_000,
  );

  it("leaves nothing behind when the claim is deleted, at whatever moment", async () => {
    for (let ticks = 1; ticks < 40; ticks += 2) {
      await using simulation = await ImportSimulation.start();
      simulation.createImage();
      simulation.createClaim();
      let count = 0;
      await simulation.until("the moment", () => ++count > ticks);
      simulation.server.erase("persistentvolumeclaims", "shop", "root");
      await simulation.until(
        "nothing is left",
        () => leftovers(simulation).length === 0 && simulation.server.all("persistentvolumes").length === 0,
      );
      expect(simulation.storage.sins).toEqual([]);
    }
  });

  it("stops when its image is deleted, and says so", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["runs"];
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("it runs", () => simulation.storage.attempts === 1);
    simulation.server.erase("virtualmachineimages", "shop", "debian");
    await simulation.until("nothing is left", () => leftovers(simulation).length === 0);
    const state = () => simulation.claim()?.metadata?.annotations?.["typevisor.io/import-state"];
    expect(state()).toContain("VirtualMachineImage debian does not exist");
    simulation.storage.outcomes = ["Completed"];
    simulation.createImage();
    await simulation.until("the claim is bound", () => isBound(simulation));
  });

  it("that fails for good waits for a change of the image", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["ChecksumMismatch", "Completed"];
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("it failed", () => entry(simulation)?.phase === "Failed");
    expect(condition(simulation, "Stalled")).toMatchObject({ status: "True", reason: "ChecksumMismatch" });
    await simulation.until("time has passed", () => simulation.clock.monotonic() > 600_000);
    expect(simulation.storage.attempts).toBe(1);
    simulation.server.edit("virtualmachineimages", "shop", "debian", (image) => {
      image.spec = { source: { http: { url: "https://cloud.example/better.qcow2" } } };
    });
    await simulation.until("the claim is bound", () => isBound(simulation));
    expect(condition(simulation, "Stalled")).toMatchObject({ status: "False" });
  });

  it("that fails for good for want of memory is tried again with what its template gives", async () => {
    await using simulation = await ImportSimulation.start();
    const memoryOf = (pod: Pod | undefined) => JSON.parse(pod?.spec?.containers[0]?.args?.[1] ?? "{}").memoryBytes;
    simulation.storage.outcomes = ["FormatUnsupported", "runs"];
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("it failed", () => entry(simulation)?.phase === "Failed");
    expect(memoryOf(simulation.server.all<Pod>("pods")[0])).toBe(64 * 2 ** 20);
    const spec = { resources: { requests: { memory: "112Mi" } } };
    simulation.server.edit<StoredImage>("virtualmachineimages", "shop", "debian", (image) => {
      image.spec = { ...image.spec, template: { spec } };
    });
    await simulation.until("it runs", () => simulation.storage.attempts === 2);
    expect(memoryOf(simulation.server.all<Pod>("pods")[0])).toBe(112 * 2 ** 20);
  });

  it("goes to a node that its template lets it on to, also where that is said after its pod was made", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.taint = "machines";
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("its pod waits", () => simulation.server.all("pods").length === 1);
    const spec = {
      nodeSelector: { disk: "fast" },
      tolerations: [{ key: "machines", operator: "Exists" as const }],
      imagePullSecrets: [{ name: "registry" }],
      resources: { requests: { memory: "1Gi" }, limits: { memory: "2Gi", cpu: 2 } },
    };
    simulation.server.edit<StoredImage>("virtualmachineimages", "shop", "debian", (image) => {
      image.spec = { ...image.spec, template: { spec } };
    });
    await simulation.until("it runs", () => simulation.storage.attempts === 1);
    const { nodeSelector, tolerations, imagePullSecrets } = spec;
    expect(simulation.server.all<Pod>("pods")[0]?.spec).toMatchObject({
      ...{ nodeSelector, tolerations, imagePullSecrets },
      containers: [{ resources: { requests: { cpu: "100m", memory: "1Gi" }, limits: { cpu: "2", memory: "2Gi" } } }],
    });
    await simulation.until("the claim is bound", () => isBound(simulation));
  });

  it("that runs is left alone by a change of its template", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["runs"];
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("it runs", () => simulation.storage.attempts === 1);
    simulation.server.edit<StoredImage>("virtualmachineimages", "shop", "debian", (image) => {
      image.spec = { ...image.spec, template: { spec: { nodeSelector: { disk: "fast" } } } };
    });
    await simulation.until("time has passed", () => simulation.clock.monotonic() > 60_000);
    expect(simulation.storage.attempts).toBe(1);
  });

  it("that waits for its server says so, and goes on in the same pod", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.storage.outcomes = ["runs"];
    const message = "the server answers 503 after 420 of 1000 bytes, 7 times in a row";
    simulation.trouble = { reason: "SourceIncomplete", message };
    simulation.createImage();
    simulation.createClaim();
    await simulation.until("it says so", () => entry(simulation)?.phase === "Retrying");
    expect(entry(simulation)).toMatchObject({ progress: "42%", message: `${message}; it goes on from there` });
    expect(condition(simulation, "Ready")).toMatchObject({ status: "False", reason: "SourceIncomplete" });
    const state = () => simulation.claim()?.metadata?.annotations?.["typevisor.io/import-state"];
    expect(state()).toBe(`Retrying: ${message}`);
    simulation.trouble = undefined;
    await simulation.until("it goes on", () => entry(simulation)?.phase === "Importing");
    expect(simulation.storage.attempts).toBe(1);
  });

  it.each(["before it begins", "in the middle"])(
    "of a claim that a machine writes to waits until that has stopped: %s",
    async (when) => {
      await using simulation = await ImportSimulation.start();
      simulation.createOrigin("origin");
      simulation.storage.outcomes = ["runs"];
      if (when === "before it begins") simulation.writers = ["web"];
      simulation.createImage(undefined, { persistentVolumeClaim: { name: "origin" } });
      simulation.createClaim();
      if (when === "in the middle") {
        await simulation.until("it runs", () => simulation.storage.attempts === 1);
        simulation.writers = ["web"];
      }
      await simulation.until("it waits", () => entry(simulation)?.reason === "SourceInUse");
      expect(entry(simulation)?.message).toBe(
        "VirtualMachine web writes to PersistentVolumeClaim origin; stop it first",
      );
      await simulation.until("its pod is gone", () => simulation.server.all("pods").length === 0);
      const before = simulation.storage.attempts;
      simulation.storage.outcomes = ["Completed"];
      simulation.writers = [];
      await simulation.until("the claim is bound", () => isBound(simulation));
      expect(simulation.storage.attempts).toBe(before + 1);
    },
  );

  it("waits for the claim's first consumer", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.createImage();
    simulation.createClaim();
    simulation.server.edit("persistentvolumeclaims", "shop", "root", (claim) => {
      claim.metadata = { ...claim.metadata, annotations: {} };
    });
    await simulation.until("it waits", () => entry(simulation)?.phase === "Waiting");
    await simulation.until("time has passed", () => simulation.clock.monotonic() > 60_000);
    expect(leftovers(simulation)).toEqual([]);
    expect(entry(simulation)?.message).toBe("waits for the first consumer of PersistentVolumeClaim root");
    simulation.server.edit("persistentvolumeclaims", "shop", "root", (claim) => {
      claim.metadata = { ...claim.metadata, annotations: { "volume.kubernetes.io/selected-node": "node-1" } };
    });
    await simulation.until("the claim is bound", () => isBound(simulation));
  });

  it("comes from a StorageClass of imports on storage that ignores dataSourceRef", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.createImage();
    simulation.createClaim("root", { storageClassName: "plain" });
    simulation.server.write("storageclasses", { metadata: { name: "plain" }, provisioner: "plain.example" } as object);
    await simulation.until("it is refused", () => entry(simulation)?.phase === "Failed");
    expect(entry(simulation)).toMatchObject({
      reason: "ClaimNotPopulated",
      message: expect.stringContaining("typevisor.io/import"),
    });
    expect(leftovers(simulation)).toEqual([]);
    simulation.server.write("storageclasses", {
      metadata: { name: "imports" },
      provisioner: "typevisor.io/import",
      parameters: { storageClassName: "fast" },
    } as object);
    simulation.createClaim("data", { storageClassName: "imports" });
    await simulation.until("the claim is bound", () => isBound(simulation, "data"));
    expect(simulation.storage.sins).toEqual([]);
  });

  it("tells of a claim that was bound to another volume, and forgives one whose annotations were lost", async () => {
    await using simulation = await ImportSimulation.start();
    simulation.createImage();
    simulation.createClaim("wrong", { volumeName: "empty" });
    const other = {
      metadata: { name: "empty" },
      spec: { claimRef: { uid: simulation.claim("wrong")?.metadata?.uid } },
    };
    simulation.server.write("persistentvolumes", other as object);
    const state = (name: string) => simulation.claim(name)?.metadata?.annotations?.["typevisor.io/import-state"];
    await simulation.until("it is told", () => state("wrong")?.startsWith("Refused: ") === true);
    await simulation.until("the image tells", () => condition(simulation, "Ready")?.reason === "ClaimNotPopulated");
    simulation.createClaim();
    await simulation.until("the other is bound", () => isBound(simulation));
    const volume = simulation.claim()?.spec?.volumeName;
    simulation.server.edit("persistentvolumeclaims", "shop", "root", (claim) => {
      claim.metadata = { ...claim.metadata, annotations: {} };
    });
    const mark = () => simulation.claim()?.metadata?.annotations?.["typevisor.io/imported-volume"];
    await simulation.until("it is marked again", () => mark() === volume);
  });
});

describe("a namespace that is deleted while a claim is filled in it", () => {
  const orders = [
    ["pods", "persistentvolumeclaims", "virtualmachineimages"],
    ["virtualmachineimages", "persistentvolumeclaims", "pods"],
  ] as const;
  const operators = ["is there", "comes back later"] as const;

  it.each(orders.flatMap((order) => operators.map((operator) => [order[0], operator, order] as const)))(
    "(%s first) goes with all that is in it, and its volumes with it, where the operator %s",
    async (_first, operator, order) => {
      await using simulation = await ImportSimulation.start();
      simulation.storage.outcomes = ["runs"];
      simulation.createImage();
      simulation.createClaim();
      await simulation.until("it runs", () => simulation.storage.attempts === 1);
      if (operator === "comes back later") await simulation.operator.uninstall();
      const { server, clock } = simulation;
      const step = endNamespace(server, "shop", order);
      await simulation.until("the namespace is empty", step);
      if (operator === "comes back later") simulation.operator.install();
      const untilMs = clock.now() + 20_000;
      await simulation.until("time has passed", () => clock.now() >= untilMs);
      expect(step()).toBe(true);
      expect(server.all("persistentvolumes")).toEqual([]);
      expect(simulation.storage.sins).toEqual([]);
    },
  );
});
