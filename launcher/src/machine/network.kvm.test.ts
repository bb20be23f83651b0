import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { InterfaceConfig, InterfaceLimits } from "../../api/machine-config.ts";
import { openLink } from "../net/open-link.ts";
import { TestNamespace } from "../net/testing/network-namespace.ts";
import { until } from "../testing/until.ts";
import { UnknownInterface } from "../virtio/net/interfaces.ts";
import { TestMachine, type TestMachineOptions } from "./testing/test-machine.ts";

const MAC = "02:5a:00:12:34:56";
const DEVICE = "tap0";
const guest = { ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" } };

let space: TestNamespace;
beforeEach(() => {
  space = new TestNamespace();
  space.addTap(DEVICE, "10.0.2.1/24");
});
afterEach(() => space[Symbol.dispose]());

/** A machine with one interface on the namespace's TAP. The MTU would be read from a sysfs that is not the namespace's. */
function start(
  { mtuBytes = 1500, ...options }: TestMachineOptions & { readonly mtuBytes?: number },
  more: Partial<InterfaceConfig> = {},
): Promise<TestMachine> {
  const config: InterfaceConfig = {
    name: "default",
    mac: MAC,
    queues: 1,
    link: "up",
    attachment: { kind: "tap", device: DEVICE, guest },
    dataPath: "inProcess",
    ...more,
  };
  const link = space.within(() => openLink(config));
  return TestMachine.start({ ...options, interfaces: [config], links: [{ ...link, mtuBytes }] });
}

const used = (test: TestMachine) => test.machine.networkUse()[0];

/** What the kernel has had from the guest. */
function counted(): { readonly packets: number; readonly bytes: number } {
  const [device] = JSON.parse(space.ip(`-s -j link show ${DEVICE}`)) as [{ stats64: { rx: CountedByKernel } }];
  return device.stats64.rx;
}
interface CountedByKernel {
  readonly packets: number;
  readonly bytes: number;
}

/** What a frame of the guest is, as `netsend` takes it. */
const hex = (...parts: readonly string[]) => parts.join("").replaceAll(/[ :]/g, "");
const NO_HEADER = "00".repeat(12);
const HELLO = Buffer.from("hello").toString("hex");
const answerOneDatagram = `
const socket = require("node:dgram").createSocket("udp4").bind(4000);
socket.on("message", (message, { address, port }) => socket.send(message, port, address, () => socket.close()));
`;
const toAll = (source: string, etherType: string) => hex("ff".repeat(6), source, etherType);

describe("a guest with a network interface", () => {
  it("is reached by its neighbour, with small packets and large ones", async () => {
    await using test = await start({});
    test.console.type("netecho 4");
    await test.console.said("net up\r\n");
    expect(await space.run("ping", "-c", "3", "-i", "0.2", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
    expect(await space.run("ping", "-c", "1", "-s", "1472", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
    await test.console.said("net answered 4 questions of 1808 bytes\r\n");
    expect(used(test)?.receive.packets).toBeGreaterThanOrEqual(5);
    expect(used(test)?.transmit).toMatchObject({ errors: 0, dropped: 0 });
    expect(space.ip("neigh show 10.0.2.2")).toContain(MAC);
  });

  it("has all frames on the one pair that it uses, of a TAP with more", async () => {
    space.addTap("tap4", "10.0.4.1/24", { multiQueue: true });
    await using test = await start({}, { queues: 4, attachment: { kind: "tap", device: "tap4" } });
    expect(test.machine.status().interfaces?.[0]?.queues).toBe(4);
    test.console.type("netecho 12");
    await test.console.said("net up\r\n");
    space.ip("route add 10.0.2.2/32 dev tap4 src 10.0.4.1 metric 1");
    // Of several flows each: without one queue alone, some would be sent to queues that nobody reads.
    for (let i = 0; i < 4; i++)
      expect(await space.run("ping", "-c", "3", "-i", "0.1", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
    await test.console.said("net answered 12 questions");
  });

  it("has jumbo frames whole, both ways, on a link that takes them", async () => {
    space.ip(`link set ${DEVICE} mtu 9000`);
    await using test = await start({ mtuBytes: 9000 });
    test.console.type("netecho 1");
    await test.console.said("net up\r\n");
    const ping = ["-c", "1", "-M", "do", "-s", "8972", "-W", "60"];
    expect(await space.run("ping", ...ping, "10.0.2.2")).toMatchObject({ code: 0 });
    await test.console.said("net answered 1 questions of 9014 bytes\r\n");
  });

  it.each<InterfaceLimits>([{ packetsPerSecond: 100 }, { bitsPerSecond: 100 * 1066 * 8 }])(
    "sends and receives no more than %j",
    async (limits) => {
      // As many frames, which are of 1066 bytes.
      const [perSecond, atOnce, frames] = [100, 10, 40];
      const letThrough = async (work: () => Promise<unknown>) => {
        const startedMs = performance.now();
        await work();
        return atOnce + (perSecond * (performance.now() - startedMs)) / 1000;
      };
      await using test = await start({}, { limits, attachment: { kind: "tap", device: DEVICE } });
      const floods = () => test.console.ask(`netbench 4 ${frames} 1066`, "netbench sent 40");
      expect(await letThrough(floods)).toBeGreaterThanOrEqual(frames);
      expect(used(test)?.transmit.packets).toBe(frames);
      test.console.type(`netecho ${frames}`);
      await test.console.said("net up\r\n");
      const isFlooded = async () => {
        const ping = ["-c", `${frames}`, "-i", "0.002", "-s", "1024", "-W", "60"];
        expect(await space.run("ping", ...ping, "10.0.2.2")).toMatchObject({ code: 0 });
      };
      expect(await letThrough(isFlooded)).toBeGreaterThanOrEqual(frames);
      await test.console.said(`net answered ${frames} questions`);
    },
  );

  it("has all frames of a flood on the TAP, whole and once, as many as there are under way", async () => {
    await using test = await start({});
    const [frames, frameBytes] = [3000, 1066];
    const before = counted();
    await test.console.ask(`netbench 64 ${frames} ${frameBytes}`, `netbench sent ${frames}`);
    expect(used(test)?.transmit).toEqual({ packets: frames, bytes: frames * frameBytes, dropped: 0, errors: 0 });
    const after = counted();
    expect([after.packets - before.packets, after.bytes - before.bytes]).toEqual([frames, frames * frameBytes]);
  });

  it("says what it is", async () => {
    await using test = await start({});
    const [status] = test.machine.status().interfaces ?? [];
    expect(status).toEqual({
      ...{ name: "default", mac: MAC, link: "up", mtuBytes: 1500, queues: 1, dataPath: "inProcess" },
      addresses: ["10.0.2.2"],
      state: "Attached",
    });
  });

  it("sends nothing in another's name, and no frame that is not sound", async () => {
    await using test = await start({});
    const arp = (senderMac: string, sender: string) =>
      hex("0001080006040001", senderMac, sender, "000000000000", "0a000201");
    const frames = [
      // Another MAC; another IPv4 address in ARP; a protocol that is none of IP's; a header without a frame; a runt.
      hex(NO_HEADER, toAll("02:5a:00:12:34:99", "0806"), arp("02:5a:00:12:34:99", "0a000202")),
      hex(NO_HEADER, toAll(MAC, "0806"), arp(MAC, "0a000263")),
      hex(NO_HEADER, toAll(MAC, "88cc"), "00".repeat(46)),
      hex(NO_HEADER),
      hex(NO_HEADER, "ffffffffffff"),
      // Segments that are none: the kernel looks into the frame, and refuses.
      hex("01 01 0000 a805 2200 1000 0000", toAll(MAC, "0806"), arp(MAC, "0a000202")),
    ];
    for (const frame of frames) await test.console.ask(`netsend ${frame}`, "net sent");
    expect(used(test)?.transmit).toMatchObject({ packets: 0 });
    expect((used(test)?.transmit.errors ?? 0) + (used(test)?.transmit.dropped ?? 0)).toBe(frames.length);
    expect(space.ip("neigh show dev tap0")).toBe("");
    await test.console.ask(`netsend ${hex(NO_HEADER, toAll(MAC, "0806"), arp(MAC, "0a000202"))}`, "net sent");
    expect(used(test)?.transmit).toMatchObject({ packets: 1 });
  });

  it("asks its neighbour by a datagram, and hears what comes back to it, if anything does", async () => {
    await using test = await start({});
    // As the node agent wires it: `netask` answers no ARP.
    space.ip(`neigh replace 10.0.2.2 lladdr ${MAC} dev tap0`);
    const gatewayMac = /link\/ether (\S+)/.exec(space.ip("link show tap0"))?.[1] ?? "";
    // IPv4 from 10.0.2.2 to 10.0.2.1, UDP from port 4001 to 4000, without a checksum.
    const ip = hex("45000021 00004000 401122ca", "0a000202 0a000201");
    const question = hex(NO_HEADER, gatewayMac, MAC, "0800", ip, "0fa1 0fa0 000d 0000", HELLO);
    test.console.type(`netask ${question}`);
    await test.console.said("net asked\r\n");
    test.console.type("enough");
    await test.console.said("net no answer\r\n");
    const server = space.run(process.execPath, "-e", answerOneDatagram);
    await until(() => space.within(() => readFileSync("/proc/thread-self/net/udp", "latin1")).includes(":0FA0 "));
    await test.console.ask(`netask ${question}`, `net answer ${HELLO}\r\n`);
    expect(await server).toEqual({ code: 0, output: "" });
  });

  it("whose link is down neither hears nor is heard, until it is up again", async () => {
    await using test = await start({}, { link: "down" });
    expect(space.ip("link show tap0")).toContain("NO-CARRIER");
    test.machine.deviceControls.setLink("default", "up");
    await until(() => space.ip("link show tap0").includes("LOWER_UP"));
    test.console.type("netecho 1");
    await test.console.said("net up\r\n");
    expect(await space.run("ping", "-c", "1", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
    expect(() => test.machine.deviceControls.setLink("other", "up")).toThrow(UnknownInterface);
  });

  it("that writes garbage in its rings harms its interface alone, which a reset brings back", async () => {
    await using test = await start({});
    await test.console.ask("netgarbage 150", "the interface works");
    expect(test.console.text).toContain("netgarbage rounds 150, the interface works");
    test.console.type("netecho 1");
    await test.console.said("net up\r\n");
    expect(await space.run("ping", "-c", "1", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
  });

  it("keeps its TAP through a reset of the machine", async () => {
    await using test = await start({});
    await test.machine.reset();
    await test.console.until(() => test.console.text.split("READY").length === 3, "a second start");
    test.console.type("netecho 1");
    await test.console.said("net up\r\n");
    expect(await space.run("ping", "-c", "1", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
  });
});
