import { symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "@jest/globals";
import type { MachineConfig } from "../../../../../launcher/api/machine-config.ts";
import { buildTestGuest } from "../../../../../launcher/src/machine/testing/test-guest.ts";
import { until } from "../../../../../launcher/src/testing/until.ts";
import { addresses, guestMac, NetworkLab } from "../../testing/network-lab.ts";

// Needs root, /dev/kvm, and a kernel with nftables.
const launcher = join(import.meta.dirname, "../../../../../launcher/src/main.ts");

/** The test guest answers this many pings, and powers off. */
const machine = (lab: NetworkLab, pings: number): MachineConfig => ({
  version: 1,
  identity: { name: "test", namespace: "test", uid: "00000000-0000-4000-8000-000000000000" },
  cpu: { count: 1, model: "Host" },
  memory: { sizeBytes: 64 << 20 },
  boot: {
    imageRoot: dirname(buildTestGuest()),
    kernelPath: "/testguest",
    commandLine: ` -- netecho ${pings}; poweroff`,
  },
  disks: [],
  interfaces: [
    {
      name: "default",
      mac: guestMac,
      queues: 2,
      link: "up",
      attachment: { kind: "masquerade" },
      dataPath: "auto",
    },
  ],
  console: { historyBytes: 65536 },
  control: { socketPath: join(lab.agent.directory, "control.sock") },
  kvm: { agentSocketPath: lab.agent.socketPath },
  terminationMessagePath: join(lab.agent.directory, "termination"),
  powerOffTimeoutMs: 1000,
  log: { level: "info" },
});

it("a launcher gets its TAP from the agent, and its guest is pinged at the pod's address", async () => {
  await using lab = await new NetworkLab({ ipv4: true, ipv6: false }).start();
  symlinkSync("/dev/kvm", lab.agent.kvmPath);
  const config = join(lab.agent.directory, "machine.json");
  writeFileSync(config, JSON.stringify(machine(lab, 2)));
  const { exited } = lab.pod.spawn(process.execPath, [launcher, "run", config]);
  // Until then, the pod answers pings by itself.
  await until(() => lab.agent.lines.some(({ reason }) => reason === "Granted"));
  lab.world.run("ping", ["-c", "2", "-i", "0.2", "-w", "60", addresses.pod4]);
  expect(await exited).toMatch('"reason":"GuestPowerOff"');
});
