import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { prometheusText } from "./prometheus.ts";
import { memoryMetrics, vcpuMetrics } from "./thread-metrics.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "typevisor-proc-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function thread(id: string, name: string, schedstat?: string): void {
  const task = join(directory, "task", id);
  mkdirSync(task, { recursive: true });
  writeFileSync(join(task, "comm"), `${name}\n`);
  if (schedstat !== undefined) writeFileSync(join(task, "schedstat"), `${schedstat}\n`);
}

const samples = (source: ReturnType<typeof vcpuMetrics>) =>
  prometheusText(source(), {})
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));

describe("the metrics of virtual processors", () => {
  it("tell how long each ran and was kept waiting, in the order in which they were made", () => {
    thread("999", "vcpu", "1500000000 250000000 7");
    thread("1000", "vcpu", "3000000000 0 9");
    thread("998", "node", "9 9 9");
    expect(samples(vcpuMetrics(directory))).toEqual([
      'typevisor_vm_vcpu_seconds_total{id="0",state="running"} 1.5',
      'typevisor_vm_vcpu_seconds_total{id="0",state="delayed"} 0.25',
      'typevisor_vm_vcpu_seconds_total{id="1",state="running"} 3',
      'typevisor_vm_vcpu_seconds_total{id="1",state="delayed"} 0',
    ]);
  });

  it("are absent where the kernel keeps no such counts, and before there are any", () => {
    thread("5", "vcpu");
    expect(samples(vcpuMetrics(directory))).toEqual([]);
    rmSync(join(directory, "task", "5"), { recursive: true });
    const source = vcpuMetrics(directory);
    expect(samples(source)).toEqual([]);
    thread("6", "vcpu", "1 2 3");
    expect(samples(source)).toHaveLength(2);
  });
});

describe("the metrics of memory", () => {
  it("keep the guest's and the launcher's apart", () => {
    writeFileSync(
      join(directory, "status"),
      "VmRSS:\t  600 kB\nRssAnon:\t     100 kB\nRssFile:\t      50 kB\nRssShmem:\t     450 kB\nVmPTE:\t 8 kB\nVmSwap:\t 4 kB\n",
    );
    expect(samples(memoryMetrics(directory))).toEqual([
      "typevisor_vm_memory_guest_resident_bytes 460800",
      "typevisor_vm_launcher_memory_overhead_bytes 153600",
      'typevisor_vm_launcher_memory_bytes{kind="anonymous"} 102400',
      'typevisor_vm_launcher_memory_bytes{kind="file"} 51200',
      'typevisor_vm_launcher_memory_bytes{kind="page_tables"} 8192',
      'typevisor_vm_launcher_memory_bytes{kind="swapped"} 4096',
    ]);
  });

  it("hold for this very process", () => {
    expect(samples(memoryMetrics("/proc/self")).length).toBeGreaterThanOrEqual(4);
  });
});
