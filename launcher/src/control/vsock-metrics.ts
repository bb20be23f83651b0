import type { MachineControls } from "../machine/control-surface.ts";
import { type MetricSource, metric } from "./prometheus.ts";

/** What the guest's vsock has carried, as the guest sees it. */
export function vsockMetrics(machine: Pick<MachineControls, "vsock">): MetricSource {
  return function* () {
    if (machine.vsock === null) return;
    const { use } = machine.vsock;
    const name = (rest: string) => `typevisor_vm_vsock_${rest}`;
    yield metric("gauge", name("connections"), "Streams of the guest's vsock, and those being made.", use.connections);
    yield {
      name: name("opened_total"),
      help: "Streams that were made, by who asked for them.",
      type: "counter",
      samples: [
        [{ origin: "guest" }, use.openedByGuest],
        [{ origin: "host" }, use.openedByHost],
      ],
    };
    yield metric("counter", name("refused_total"), "Streams that were asked for and not had.", use.refused);
    yield metric("counter", name("receive_bytes_total"), "Bytes that the guest received.", use.receivedBytes);
    yield metric("counter", name("transmit_bytes_total"), "Bytes that the guest sent.", use.transmittedBytes);
    yield metric(
      "counter",
      name("packets_dropped_total"),
      "Packets of the guest that were not sound, or of no stream.",
      use.droppedPackets,
    );
  };
}
