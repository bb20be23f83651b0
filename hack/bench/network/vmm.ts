import { testGuestConfig } from "../bench-launcher.ts";
import { BENCH_MEMORY_BYTES, BenchMachine } from "../bench-machine.ts";

/** How the guest is run. Filtered: as in a pod, where no frame passes that is not in the guest's name. */
export const networkVmms = ["launcher", "launcher, filtered", "QEMU"] as const;
export type NetworkVmm = (typeof networkVmms)[number];

const MAC = "02:5a:00:12:34:56";
/** As the load of the test guest says it is. */
const guest = { ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" } };

export interface NetworkBench {
  /** Network namespace with the TAP. */
  readonly namespace: string;
  readonly device: string;
  /** For files of the launcher. */
  readonly directory: string;
  /** The longest time to look for the next frame; the launcher's default when absent. */
  readonly pollingUs?: number | undefined;
}

/** The test guest under a VMM, with one interface. */
export function startWithInterface(vmm: NetworkVmm, bench: NetworkBench): Promise<BenchMachine> {
  const { namespace, device, directory, pollingUs } = bench;
  const wrapper = ["ip", "netns", "exec", namespace];
  if (vmm === "QEMU")
    return BenchMachine.startQemu(
      [
        ...["-netdev", `tap,id=net,ifname=${device},script=no,downscript=no,vhost=off`],
        ...["-device", `virtio-net-pci,netdev=net,mac=${MAC},disable-legacy=on,romfile=`],
      ],
      wrapper,
    );
  const config = testGuestConfig(directory, 1, {
    memory: { sizeBytes: BENCH_MEMORY_BYTES },
    interfaces: [
      {
        name: "default",
        mac: MAC,
        queues: 1,
        link: "up",
        attachment: { kind: "tap", device, ...(vmm === "launcher, filtered" && { guest }) },
        dataPath: "inProcess",
      },
    ],
    ...(pollingUs !== undefined && { polling: { windowUs: pollingUs, sharePercent: 50 } }),
  });
  return BenchMachine.startLauncher({ config, directory, wrapper });
}
