import { describe, expect, it } from "@jest/globals";
import { DiskUse } from "../virtio/block/disk-use.ts";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../virtio/block/protocol.ts";
import { diskMetrics } from "./disk-metrics.ts";
import { prometheusText } from "./prometheus.ts";
import { FakeMachine } from "./testing/fake-machine.ts";

function scrape(machine: FakeMachine): string[] {
  return prometheusText(diskMetrics(machine)(), { name: "web" })
    .split("\n")
    .filter((line) => !line.startsWith("#"));
}

/** Requests up to 0.1, 1, 5, 20 and 100 ms, a second, and all. */
function latency(operation: string, upTo: readonly number[], sum: number): string[] {
  const labels = `name="web",drive="root",operation="${operation}"`;
  const bounds = ["0.0001", "0.001", "0.005", "0.02", "0.1", "1", "+Inf"];
  return [
    ...bounds.map((le, i) => `request_seconds_bucket{${labels},le="${le}"} ${upTo[i]}`),
    `request_seconds_sum{${labels}} ${sum}`,
    `request_seconds_count{${labels}} ${upTo.at(-1)}`,
  ];
}

describe("the metrics of disks", () => {
  it("tell what each has done", () => {
    const use = new DiskUse();
    use.count(VIRTIO_BLK_T_IN, 4096, 2, false);
    use.count(VIRTIO_BLK_T_IN, 4096, 3, false);
    use.count(VIRTIO_BLK_T_OUT, 512, 1, false);
    use.count(VIRTIO_BLK_T_OUT, 512, 7, true);
    use.count(VIRTIO_BLK_T_FLUSH, 0, 500, false);
    use.count(VIRTIO_BLK_T_DISCARD, 8192, 1, false);
    use.count(77, 1, 1, false);
    const machine = new FakeMachine();
    machine.disks = [{ name: "root", sizeBytes: 1 << 20, isFull: true, operations: use.operations }];
    expect(scrape(machine)).toEqual(
      [
        `capacity_bytes{name="web",drive="root"} 1048576`,
        `full{name="web",drive="root"} 1`,
        `iops_read_total{name="web",drive="root"} 2`,
        `read_traffic_bytes_total{name="web",drive="root"} 8192`,
        `read_times_seconds_total{name="web",drive="root"} 0.005`,
        `iops_write_total{name="web",drive="root"} 2`,
        `write_traffic_bytes_total{name="web",drive="root"} 512`,
        `write_times_seconds_total{name="web",drive="root"} 0.008`,
        `flush_requests_total{name="web",drive="root"} 1`,
        `flush_times_seconds_total{name="web",drive="root"} 0.5`,
        `discard_requests_total{name="web",drive="root"} 1`,
        `discard_times_seconds_total{name="web",drive="root"} 0.001`,
        `write_zeroes_requests_total{name="web",drive="root"} 0`,
        `write_zeroes_times_seconds_total{name="web",drive="root"} 0`,
        ...latency("read", [0, 0, 2, 2, 2, 2, 2], 0.005),
        ...latency("write", [0, 1, 1, 2, 2, 2, 2], 0.008),
        ...latency("flush", [0, 0, 0, 0, 0, 1, 1], 0.5),
        `errors_total{name="web",drive="root",operation="read"} 0`,
        `errors_total{name="web",drive="root",operation="write"} 1`,
        `errors_total{name="web",drive="root",operation="flush"} 0`,
        `errors_total{name="web",drive="root",operation="discard"} 0`,
        `errors_total{name="web",drive="root",operation="writeZeroes"} 0`,
      ]
        .map((line) => `typevisor_vm_storage_${line}`)
        .concat(""),
    );
  });

  it("of a machine without disks are none", () => {
    expect([...diskMetrics(new FakeMachine())()]).toEqual([]);
  });
});
