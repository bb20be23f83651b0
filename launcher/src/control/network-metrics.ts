import type { MachineControls } from "../machine/control-surface.ts";
import type { Metric, MetricSource } from "./prometheus.ts";

const DIRECTIONS = ["receive", "transmit"] as const;

/** What the machine's interfaces have carried, as the guest sees it; label `interface` is an interface's name. */
export function networkMetrics(machine: Pick<MachineControls, "networkUse">): MetricSource {
  return function* () {
    const interfaces = machine.networkUse();
    if (interfaces.length === 0) return;
    for (const direction of DIRECTIONS) {
      const verb = direction === "receive" ? "received" : "sent";
      const each = (name: string, help: string, value: "bytes" | "packets" | "dropped" | "errors"): Metric => ({
        name: `typevisor_vm_network_${direction}_${name}_total`,
        help,
        type: "counter",
        samples: interfaces.map((report) => [{ interface: report.name }, report[direction][value]]),
      });
      yield each("bytes", `Bytes that the guest ${verb}.`, "bytes");
      yield each("packets", `Frames that the guest ${verb}; one of many segments counts once.`, "packets");
      yield each("packets_dropped", `Frames that were lost or stopped before the guest ${verb} them.`, "dropped");
      yield each("errors", `Frames that were not sound, of those the guest ${verb}.`, "errors");
    }
  };
}
