import { join } from "node:path";
import { judge, measure } from "../dev-cluster/kvm/verdict.ts";
import { ensureDebianPackages } from "../lib/debian-packages.ts";
import { say } from "../lib/step.ts";
import { openHostLab } from "./host-lab.ts";
import type { LinuxLab } from "./lab.ts";
import { openNodeLab } from "./node-lab.ts";

/** The lab of this machine: itself if its KVM is fit for Linux, otherwise a node VM, started if it does not run. */
export async function openLab(): Promise<LinuxLab> {
  const verdict = judge(await measure());
  if (verdict.kvmFit) return openHostLab();
  say(`Linux lab: ${verdict.reason}`);
  for (const list of ["dev-cluster", "linux-lab"]) {
    await ensureDebianPackages(join(import.meta.dirname, "..", list, "packages.txt"));
  }
  return openNodeLab();
}
