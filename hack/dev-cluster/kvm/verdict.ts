import { existsSync } from "node:fs";
import { join } from "node:path";
import { CommandError, run } from "../../lib/step.ts";
import type { Flavour } from "../layout.ts";

/** Hardware reaches thousands, a busy machine hundreds; an emulated kernel mode about one. */
export const fitForLinuxMips = 100;

export type KvmMeasurement =
  | { readonly kind: "missing" }
  | { readonly kind: "unusable"; readonly problem: string }
  | { readonly kind: "measured"; readonly mips: number };

export interface Verdict {
  readonly flavour: Flavour;
  /** Whether Linux guests run on this machine's own KVM. */
  readonly kvmFit: boolean;
  /** One sentence with the figure and what follows from it. */
  readonly reason: string;
}

/** What the measurement means for the cluster. */
export function judge(measurement: KvmMeasurement): Verdict {
  if (measurement.kind === "missing") {
    return { flavour: "qemu", kvmFit: false, reason: "no /dev/kvm on this machine: nodes are emulated VMs (slow)" };
  }
  if (measurement.kind === "unusable") {
    const reason = `/dev/kvm cannot run a guest (${measurement.problem}): nodes are emulated VMs (slow)`;
    return { flavour: "qemu", kvmFit: false, reason };
  }
  const figure = `/dev/kvm runs a guest's kernel mode at ${formatMips(measurement.mips)} million instructions a second`;
  if (measurement.mips >= fitForLinuxMips) {
    return { flavour: "native", kvmFit: true, reason: `${figure}, fit for Linux: this machine is the node` };
  }
  const reason = `${figure}, less than the ${fitForLinuxMips} that Linux needs: nodes are emulated VMs (slow)`;
  return { flavour: "qemu", kvmFit: false, reason };
}

function formatMips(mips: number): string {
  return mips >= 10 ? Math.round(mips).toString() : mips.toFixed(1);
}

/** Measures /dev/kvm in a process of its own. */
export async function measure(): Promise<KvmMeasurement> {
  if (!existsSync("/dev/kvm")) return { kind: "missing" };
  try {
    const program = join(import.meta.dirname, "measure-main.ts");
    const { mips } = JSON.parse(await run([process.execPath, program], { timeoutMs: 20_000 })) as { mips: number };
    return { kind: "measured", mips };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const problem = /Error: (.*)/.exec(error.message)?.[1] ?? "it did not end within 20 s";
    return { kind: "unusable", problem };
  }
}
