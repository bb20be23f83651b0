import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { InterfaceConfig } from "../../api/machine-config.ts";
import { decodeState, encodeState } from "../migration/codec/snapshot-codec.ts";
import { NetworkError } from "../net/network-link.ts";
import { openLink } from "../net/open-link.ts";
import { TestNamespace } from "../net/testing/network-namespace.ts";
import { until } from "../testing/until.ts";
import { UnknownInterface } from "../virtio/net/interfaces.ts";
import { IllegalTransition } from "./control-surface.ts";
import { TestMachine, type TestMachineOptions } from "./testing/test-machine.ts";

const NO_CONSOLES = { serial: new Uint8Array(0), virtio: new Uint8Array(0) };

let space: TestNamespace;
beforeEach(() => {
  space = new TestNamespace();
  space.addTap("tap0", "10.0.2.1/24");
});
afterEach(() => space[Symbol.dispose]());

const nic = (name: string, more: Partial<InterfaceConfig> = {}): InterfaceConfig => ({
  name,
  mac: "02:5a:00:12:34:56",
  queues: 1,
  link: "up",
  attachment: { kind: "tap", device: "tap0" },
  dataPath: "inProcess",
  ...more,
});

const open = async (config: InterfaceConfig) => space.within(() => openLink(config));
const start = (options: TestMachineOptions = {}) => TestMachine.start({ openLink: open, ...options });

const stateOf = ({ machine }: TestMachine, name: string) =>
  machine.status().interfaces?.find((each) => each.name === name)?.state;
const gone = (test: TestMachine, name: string) => until(() => stateOf(test, name) === undefined);

/** The guest is a host of the network, for one ping. */
async function answersPing(test: TestMachine): Promise<void> {
  test.console.text = "";
  test.console.type("netecho 1");
  await test.console.said("net up\r\n");
  expect(await space.run("ping", "-c", "1", "-W", "60", "10.0.2.2")).toMatchObject({ code: 0 });
  await test.console.said("net answered 1 questions");
}

describe("an interface that is added to a running machine", () => {
  it("is told of, found, used, and given up, and comes again", async () => {
    await using test = await start();
    await test.console.ask("netecho 1", "net none");
    test.console.text = "";
    await test.machine.deviceControls.attachInterface(nic("storage"));
    // Behind entropy device and console.
    await test.console.said("slots plugged 0x8\r\n");
    expect(stateOf(test, "storage")).toBe("Attaching");
    await answersPing(test);
    expect(stateOf(test, "storage")).toBe("Attached");
    expect(test.machine.networkUse().map(({ name }) => name)).toEqual(["storage"]);
    test.machine.deviceControls.setLink("storage", "down");
    await until(() => space.ip("link show tap0").includes("NO-CARRIER"));

    test.console.text = "";
    test.machine.deviceControls.detachInterface("storage");
    await test.console.said("slots to give up 0x8\r\n");
    await gone(test, "storage");
    await test.console.ask("netecho 1", "net none");
    // Its TAP is free: it could not be opened twice.
    await test.machine.deviceControls.attachInterface(nic("storage"));
    await answersPing(test);
  });

  it("stays as it is when it is added again, and is refused when another one has its name", async () => {
    await using test = await start();
    await test.machine.deviceControls.attachInterface(nic("storage"));
    await test.machine.deviceControls.attachInterface(nic("storage", { link: "down" }));
    expect(test.machine.status().interfaces).toHaveLength(1);
    const other = nic("storage", { mac: "02:5a:00:12:34:99" });
    await expect(test.machine.deviceControls.attachInterface(other)).rejects.toThrow(
      /another interface of this name; detach that one/,
    );
  });

  it("leaves nothing behind when it cannot be had", async () => {
    await using test = await start();
    const missing = nic("storage", { queues: 4 });
    await expect(test.machine.deviceControls.attachInterface(missing)).rejects.toThrow(NetworkError);
    expect(test.machine.status().interfaces).toEqual([]);
    await test.machine.deviceControls.attachInterface(nic("storage"));
    await using deprived = await TestMachine.start();
    await expect(deprived.machine.deviceControls.attachInterface(nic("storage"))).rejects.toThrow(
      /no interface can come/,
    );
  });

  it("is not added before the machine runs or after its end, and an unknown one is not taken", async () => {
    await using test = await TestMachine.make({ openLink: open });
    await expect(test.machine.deviceControls.attachInterface(nic("storage"))).rejects.toThrow(IllegalTransition);
    test.machine.start();
    expect(() => test.machine.deviceControls.detachInterface("storage")).toThrow(UnknownInterface);
    await test.machine.stop(0);
    await expect(test.machine.deviceControls.attachInterface(nic("storage"))).rejects.toThrow(IllegalTransition);
  });

  it("stays with a guest that does not give it up, until a reset", async () => {
    await using test = await start();
    await test.console.ask("deaf", "deaf\r\n");
    await test.machine.deviceControls.attachInterface(nic("storage"));
    test.machine.deviceControls.detachInterface("storage");
    test.machine.deviceControls.detachInterface("storage");
    expect(stateOf(test, "storage")).toBe("Detaching");
    await expect(test.machine.deviceControls.attachInterface(nic("storage"))).rejects.toThrow(
      /has not given up the earlier one/,
    );
    await test.machine.reset();
    await gone(test, "storage");
    await test.machine.deviceControls.attachInterface(nic("storage"));
    await test.machine.reset();
    expect(stateOf(test, "storage")).toBe("Attached");
  });

  it("goes on in its slot on another machine, whose configuration names it first", async () => {
    const test = await start();
    await test.machine.deviceControls.attachInterface(nic("storage"));
    await answersPing(test);
    await test.console.ask("pci", "pci done");
    const functions = /pci .*pci done/s.exec(test.console.text)?.[0];
    await test.machine.freeze(60_000);
    const { memory } = test.machine.memory;
    const copies = memory.regions.map(({ gpa, sizeBytes }) => memory.view(gpa, sizeBytes).slice());
    const { snapshot, version } = decodeState(encodeState(test.machine.save(), NO_CONSOLES));
    await test.machine.leave("Suspended", "for a test");
    await test[Symbol.asyncDispose]();

    const links = [await open(nic("storage"))];
    const options = { interfaces: [nic("storage")], links, isIncoming: true };
    await using to = await TestMachine.make(options);
    to.machine.memory.memory.regions.forEach(({ gpa }, i) => {
      to.machine.memory.memory.write(gpa, copies[i] ?? new Uint8Array(0));
    });
    to.machine.restore(snapshot, { elapsedNs: 0n, version });
    to.machine.start();
    await to.console.ask("pci", "pci done");
    expect(/pci .*pci done/s.exec(to.console.text)?.[0]).toBe(functions);
    expect(functions).toMatch(/pci 3 1af4:1041/);
    await answersPing(to);
  });
});
