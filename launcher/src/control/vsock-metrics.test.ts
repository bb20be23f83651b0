import { expect, it } from "@jest/globals";
import { VsockUse } from "../virtio/vsock/vsock-use.ts";
import { prometheusText } from "./prometheus.ts";
import { FakeMachine } from "./testing/fake-machine.ts";
import { vsockMetrics } from "./vsock-metrics.ts";

const scrape = (machine: FakeMachine) =>
  prometheusText(vsockMetrics(machine)(), {})
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));

it("the metrics of a vsock tell what its streams have carried; without one there are none", () => {
  const machine = new FakeMachine();
  expect(scrape(machine)).toEqual([]);
  const counts = { connections: 1, openedByGuest: 2, openedByHost: 3, refused: 4, droppedPackets: 5 };
  const use = Object.assign(new VsockUse(), counts, { receivedBytes: 6, transmittedBytes: 7 });
  machine.vsock = { use, connect() {} };
  expect(scrape(machine)).toEqual([
    "typevisor_vm_vsock_connections 1",
    'typevisor_vm_vsock_opened_total{origin="guest"} 2',
    'typevisor_vm_vsock_opened_total{origin="host"} 3',
    "typevisor_vm_vsock_refused_total 4",
    "typevisor_vm_vsock_receive_bytes_total 6",
    "typevisor_vm_vsock_transmit_bytes_total 7",
    "typevisor_vm_vsock_packets_dropped_total 5",
  ]);
});
