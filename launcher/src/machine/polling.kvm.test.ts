import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { InterfaceConfig, PollingConfig } from "../../api/machine-config.ts";
import { openLink } from "../net/open-link.ts";
import { TestNamespace } from "../net/testing/network-namespace.ts";
import { until } from "../testing/until.ts";
import { TestMachine } from "./testing/test-machine.ts";

const DISK_BYTES = 4 << 20;
const READ = 0;
const WRITE = 1;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "polling-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const start = (polling: PollingConfig) => {
  const source = { kind: "empty", path: join(directory, "scratch"), sizeBytes: DISK_BYTES } as const;
  return TestMachine.start({ polling, disks: [{ name: "scratch", readOnly: false, queues: 1, source }] });
};

/** The guest rings as seldom as it is asked to: one bell that is missed, and it waits for ever. */
const load = (test: TestMachine, depth: number, count: number, direction: number, eventIndex = 1) =>
  test.console.ask(
    `blkbench 0 ${depth} ${count} 4096 1 ${direction} ${eventIndex}`,
    `blkbench done ${count} failed 0 ticks`,
  );

const requests = (test: TestMachine) => test.machine.diskUse()[0]?.operations.read.requests ?? 0;

describe("a disk that is looked at", () => {
  it.each<[string, PollingConfig]>([
    ["as long as usual", { windowUs: 32, sharePercent: 50 }],
    ["for so short that each answer is close to the end", { windowUs: 1, sharePercent: 100 }],
    ["for so little of the time that it is mostly left", { windowUs: 32, sharePercent: 1 }],
    ["never", { windowUs: 0, sharePercent: 50 }],
  ])("%s answers all that its guest asks", async (_how, polling) => {
    await using test = await start(polling);
    for (const depth of [1, 2, 32])
      for (const eventIndex of [0, 1])
        for (const direction of [WRITE, READ])
          await load(test, depth, direction === READ ? 6000 : 600, direction, eventIndex);
    expect(test.machine.pollingSeconds > 0).toBe(polling.windowUs > 0);
    await test.console.ask("blkwrite 0 3 7", "blkwrite status 0");
    await test.console.ask("blkread 0 3", "blkread status 0 data 0x7");
  });

  it("can be paused in the midst of it, and goes on", async () => {
    await using test = await start({ windowUs: 32, sharePercent: 50 });
    const loaded = load(test, 1, 20_000, READ);
    const hasEnded = () => test.console.text.includes("blkbench done");
    for (let i = 0; i < 20; i++) {
      await test.machine.pause();
      await test.machine.resume();
      const served = requests(test);
      await until(() => requests(test) > served + 100 || hasEnded());
    }
    await test.machine.freeze(60_000);
    test.machine.thaw();
    await loaded;
    expect(test.machine.status().state).toBe("Running");
  });
});

describe("an interface that is looked at", () => {
  const DEVICE = "tap0";

  /** What the guest sends comes back to it at once. */
  function mirror(space: TestNamespace): void {
    space.withoutIpv6();
    space.ip(`tuntap add dev ${DEVICE} mode tap vnet_hdr`);
    space.ip(`link set ${DEVICE} up`);
    space.filter(`table netdev mirror {
      chain guest {
        type filter hook ingress device "${DEVICE}" priority 0; policy drop;
        fwd to "${DEVICE}"
      }
    }`);
  }

  const startWithInterface = (space: TestNamespace, polling: PollingConfig, more: Partial<InterfaceConfig> = {}) => {
    const config: InterfaceConfig = {
      ...{ name: "default", mac: "02:5a:00:12:34:56", queues: 1, link: "up", dataPath: "inProcess" },
      attachment: { kind: "tap", device: DEVICE },
      ...more,
    };
    return TestMachine.start({ polling, interfaces: [config], links: [space.within(() => openLink(config))] });
  };

  it.each<[string, PollingConfig]>([
    ["as long as usual", { windowUs: 32, sharePercent: 50 }],
    ["for so short that each answer is close to the end", { windowUs: 1, sharePercent: 100 }],
    ["never", { windowUs: 0, sharePercent: 50 }],
  ])("%s carries all frames, both ways", async (_how, polling) => {
    using space = new TestNamespace();
    mirror(space);
    await using test = await startWithInterface(space, polling);
    for (const [depth, count, bytes] of [
      [1, 3000, 64],
      [64, 6000, 64],
      [2, 600, 20_000],
    ] as const) {
      const segment = bytes > 1514 ? 1448 : 0;
      const said = await test.console.ask(`netbench ${depth} ${count} ${bytes} 1 ${segment}`, "ticks");
      expect(said).toContain(`netbench sent ${count} received ${count} bytes ${count * (bytes + 12)} `);
    }
    expect(test.machine.pollingSeconds > 0).toBe(polling.windowUs > 0);
  });

  it("is not where it has a limit, for which its frames wait", async () => {
    using space = new TestNamespace();
    mirror(space);
    const limits = { packetsPerSecond: 2000 };
    await using test = await startWithInterface(space, { windowUs: 32, sharePercent: 100 }, { limits });
    await test.console.ask("netbench 16 1000 64 1", "netbench sent 1000 received 1000 ");
    expect(test.machine.pollingSeconds).toBe(0);
  });
});
