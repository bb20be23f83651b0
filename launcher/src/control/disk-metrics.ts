import type { MachineControls } from "../machine/control-surface.ts";
import type { DiskReport } from "../virtio/block/disks.ts";
import { histogramSamples, type Metric, type MetricSource } from "./prometheus.ts";

/** What the machine's disks have done; label `drive` is a disk's name. */
export function diskMetrics(machine: Pick<MachineControls, "diskUse">): MetricSource {
  return function* () {
    const disks = machine.diskUse();
    if (disks.length === 0) return;
    const each = (type: Metric["type"], name: string, help: string, value: (disk: DiskReport) => number): Metric => ({
      name: `typevisor_vm_storage_${name}`,
      help,
      type,
      samples: disks.map((disk) => [{ drive: disk.name }, value(disk)]),
    });
    yield each("gauge", "capacity_bytes", "Size of the disk as the guest sees it.", (disk) => disk.sizeBytes);
    yield each("gauge", "full", "1 while writes wait because the disk's storage is full.", (disk) =>
      Number(disk.isFull),
    );
    for (const kind of ["read", "write"] as const) {
      const use = (disk: DiskReport) => disk.operations[kind];
      yield each("counter", `iops_${kind}_total`, `Requests to ${kind}.`, (disk) => use(disk).requests);
      yield each(
        "counter",
        `${kind}_traffic_bytes_total`,
        `Bytes that were ${kind === "read" ? "read" : "written"}.`,
        (disk) => use(disk).bytes,
      );
      yield each(
        "counter",
        `${kind}_times_seconds_total`,
        `Time of all requests to ${kind}.`,
        (disk) => use(disk).seconds,
      );
    }
    for (const [kind, name] of [
      ["flush", "flush"],
      ["discard", "discard"],
      ["writeZeroes", "write_zeroes"],
    ] as const) {
      yield each(
        "counter",
        `${name}_requests_total`,
        `Requests to ${name.replace("_", " ")}.`,
        (disk) => disk.operations[kind].requests,
      );
      yield each(
        "counter",
        `${name}_times_seconds_total`,
        `Time of all requests to ${name.replace("_", " ")}.`,
        (disk) => disk.operations[kind].seconds,
      );
    }
    yield {
      name: "typevisor_vm_storage_request_seconds",
      help: "How long requests took, from when the device took them until they ended.",
      type: "histogram",
      samples: disks.flatMap(({ name, operations }) =>
        (["read", "write", "flush"] as const).flatMap((operation) =>
          histogramSamples({ drive: name, operation }, operations[operation].latency),
        ),
      ),
    };
    yield {
      name: "typevisor_vm_storage_errors_total",
      help: "Requests that failed in the disk's storage.",
      type: "counter",
      samples: disks.flatMap(({ name, operations }) =>
        Object.entries(operations).map(([operation, { errors }]) => [{ drive: name, operation }, errors] as const),
      ),
    };
  };
}
