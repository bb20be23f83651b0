import { readdirSync, readFileSync } from "node:fs";
import type { Layout } from "../../hack/dev-cluster/layout.ts";
import { onNativeNode } from "../../hack/dev-cluster/native/node.ts";
import type { Tools } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";
import type { Kubectl } from "./kubectl.ts";

export interface Process {
  readonly pid: number;
  readonly command: string;
}

/** Processes of a pod on this node, by the pod's UID in their cgroup. */
export function processesOf(podUid: string): Process[] {
  const found: Process[] = [];
  const marks = [podUid, podUid.replaceAll("-", "_")];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const cgroup = readFileSync(`/proc/${pid}/cgroup`, "utf8");
      if (!marks.some((mark) => cgroup.includes(mark))) continue;
      found.push({ pid, command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim() });
    } catch {
      // The process ended while we looked.
    }
  }
  return found;
}

/** What is left of a VM that was deleted, and of the pod that it last had; a line for each thing. */
export async function leftovers(
  where: { readonly layout: Layout; readonly tools: Tools },
  kubectl: Kubectl,
  vm: { readonly name: string; readonly podUid: string },
): Promise<string[]> {
  const onNode = (script: string) => run(onNativeNode(where.layout, where.tools, ["sh", "-c", script]));
  const objects = await kubectl.run(["get", "pods,secrets", "-l", `typevisor.io/vm=${vm.name}`, "-o", "name"]);
  const mounts = await onNode("cat /proc/self/mountinfo");
  const directories = await onNode(`ls -d /var/lib/kubelet/pods/${vm.podUid} 2>/dev/null || true`);
  // Machines have neither now; what makes one must take it away.
  const taps = await onNode("ip tuntap list");
  const loops = await onNode("cat /sys/block/loop*/loop/backing_file 2>/dev/null || true");
  const ofPod = (text: string) => lines(text).filter((line) => line.includes(vm.podUid));
  return [
    ...lines(objects),
    ...processesOf(vm.podUid).map((process) => `process ${process.pid} ${process.command}`),
    ...ofPod(mounts).map((line) => `mount ${line}`),
    ...lines(directories).map((line) => `directory ${line}`),
    ...lines(taps).map((line) => `tap ${line}`),
    ...ofPod(loops).map((line) => `loop device on ${line}`),
  ];
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line.trim() !== "");
}
