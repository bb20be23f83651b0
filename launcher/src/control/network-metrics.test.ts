import { expect, it } from "@jest/globals";
import { networkMetrics } from "./network-metrics.ts";
import { prometheusText } from "./prometheus.ts";
import { FakeMachine } from "./testing/fake-machine.ts";

const scrape = (machine: FakeMachine) =>
  prometheusText(networkMetrics(machine)(), { name: "web" })
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));

it("the metrics of interfaces tell what each has carried, both ways", () => {
  const machine = new FakeMachine();
  expect(scrape(machine)).toEqual([]);
  const receive = { packets: 1, bytes: 100, dropped: 2, errors: 3 };
  machine.interfaces = [{ name: "default", receive, transmit: { packets: 4, bytes: 500, dropped: 6, errors: 7 } }];
  expect(scrape(machine)).toEqual(
    [
      ["receive_bytes", 100],
      ["receive_packets", 1],
      ["receive_packets_dropped", 2],
      ["receive_errors", 3],
      ["transmit_bytes", 500],
      ["transmit_packets", 4],
      ["transmit_packets_dropped", 6],
      ["transmit_errors", 7],
    ].map(([name, value]) => `typevisor_vm_network_${name}_total{name="web",interface="default"} ${value}`),
  );
});
