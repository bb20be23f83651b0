import { rm } from "node:fs/promises";
import { withLock } from "../lib/lock.ts";
import { step } from "../lib/step.ts";
import { removeCgroup } from "./cgroups.ts";
import type { Layout } from "./layout.ts";
import { removeMountNamespace } from "./native/mount-namespace.ts";
import { removeNetwork } from "./network.ts";
import { processNames, stopProcess } from "./processes.ts";
import { clearCurrentName } from "./state.ts";

const graceMs = 500;

/** Removes the cluster: its processes, namespaces, mounts, cgroups and files, and nothing else. */
export async function down(layout: Layout): Promise<void> {
  await withLock(`cluster/${layout.name}`, 30 * 60_000, () =>
    step(`Removing cluster ${layout.name}`, 5, async () => {
      // The kubelet first, or it would start again what ends. None has anything to save: its files go as well.
      await stopProcess(layout, "kubelet", graceMs);
      const names = await processNames(layout);
      await Promise.all(names.map((name) => stopProcess(layout, name, graceMs)));
      await removeCgroup(layout.cgroup);
      await removeMountNamespace(layout);
      await removeNetwork(layout);
      await rm(layout.runDir, { recursive: true, force: true });
      await rm(layout.stateDir, { recursive: true, force: true });
      await clearCurrentName(layout.name);
    }),
  );
}
