import { describe, expect, it } from "@jest/globals";
import { KvmSystem, openKvm } from "../kvm/system.ts";
import { slowClock } from "./testing/slow-clock.ts";
import { TestMachine } from "./testing/test-machine.ts";

const LINES = 300;
const lines = Array.from({ length: LINES }, (_, i) => `line ${i}\r\n`).join("");

function kvmCoalesces(): boolean {
  using kvm = openKvm("/dev/kvm");
  return new KvmSystem(kvm.fd).coalescedPortsPage() > 0;
}

const coalesces = kvmCoalesces();

describe("what a guest prints on its serial port", () => {
  it(`leaves the guest ${coalesces ? "seldom" : "for each character, since KVM here coalesces no ports"}`, async () => {
    using _quick = slowClock(100);
    await using test = await TestMachine.start();
    const before = test.machine.status().exits["io:0x3f8"] ?? 0;
    expect(await test.console.ask(`lines ${LINES}`, "lines done\r\n")).toBe(`${lines}lines done\r\n`);
    const exits = (test.machine.status().exits["io:0x3f8"] ?? 0) - before;
    if (coalesces) expect(exits).toBeLessThan(lines.length / 10);
    else expect(exits).toBeGreaterThanOrEqual(lines.length);
  });

  it("comes whole and in order from a guest that asks for room before each character", async () => {
    await using test = await TestMachine.start();
    const said = await test.console.ask(`polledlines ${LINES}`, "polledlines done\r\n");
    expect(said).toBe(`${lines}polledlines done\r\n`);
    expect(test.machine.status().exits["io:0x3fd"]).toBeGreaterThanOrEqual(lines.length);
  });

  it("comes whole from a driver that waits for an interrupt behind each FIFO full", async () => {
    await using test = await TestMachine.start({ commands: `lines ${LINES}` });
    await test.console.said("lines done\r\n");
    const said = await test.console.ask("sentlines 40", "sentlines done\r\n");
    expect(said).toBe(`${"a line of some forty characters, sent\r\n".repeat(40)}sentlines done\r\n`);
  });

  it("is seen from a guest that never leaves again", async () => {
    await using test = await TestMachine.make({ commands: `lines ${LINES}; spin` });
    test.machine.start();
    await test.console.said(`${lines}lines done\r\nspinning\r\n`);
  });

  it("keeps the order of lines of several processors, and tears none", async () => {
    await using test = await TestMachine.start({ cpuCount: 3 });
    await test.console.ask("cpus", "cpus 3\r\n");
    const said = await test.console.ask("talkall 60", "talkall done\r\n");
    for (const cpu of [0, 1, 2]) {
      const own = said.split("\r\n").filter((line) => line.startsWith(`processor ${cpu} `));
      expect(own).toEqual(Array.from({ length: 60 }, (_, i) => `processor ${cpu} line ${i}`));
    }
    expect(said.split("\r\n")).toHaveLength(3 * 60 + 2);
  });

  it.each([
    ["poweroff", "power off\r\n", "GuestPowerOff"],
    ["triplefault", "triple fault\r\n", "GuestTripleFault"],
  ])("is there to its last character when the guest ends by %s", async (command, lastWords, reason) => {
    await using test = await TestMachine.make({ commands: `lines ${LINES}; ${command}` });
    test.machine.start();
    await expect(test.machine.ended).resolves.toMatchObject({ reason });
    expect(test.console.text).toContain(`${lines}lines done\r\n${lastWords}`);
  });

  it("is there, and nothing else, around a panic", async () => {
    await using test = await TestMachine.make({ commands: `lines ${LINES}; panic` });
    test.machine.start();
    await test.console.said(`${lines}lines done\r\npanicked\r\n`);
    expect(test.machine.status().guestPanicked).toBe(true);
  });

  it("is there as far as the guest came when it is paused, and goes on from there", async () => {
    await using test = await TestMachine.start();
    test.console.text = "";
    test.console.type(`lines ${LINES}`);
    await test.console.said("line 20\r\n");
    for (let pauses = 0; pauses < 5 && !test.console.text.includes("lines done"); pauses++) {
      await test.machine.pause();
      const { text } = test.console;
      expect(`${lines}lines done\r\n`.startsWith(text)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(test.console.text).toBe(text);
      test.machine.resume();
      await test.console.until(() => test.console.text !== text || text.includes("lines done"), "more output");
    }
    await test.console.said(`${lines}lines done\r\n`);
  });

  it("is there as far as the guest came when it is reset, and starts anew", async () => {
    await using test = await TestMachine.start();
    for (let resets = 0; resets < 3; resets++) {
      test.console.text = "";
      test.console.type(`lines ${LINES}`);
      await test.console.said("line 30\r\n");
      await test.machine.reset();
      await test.console.said("READY pvh\r\n");
      const [before = "", after] = test.console.text.split("TYPEVISOR");
      expect(`${lines}lines done\r\n`.startsWith(before)).toBe(true);
      expect(after).toBe(" TESTGUEST READY pvh\r\n");
    }
  });

  it("is there as far as the guest came when it is switched off", async () => {
    await using test = await TestMachine.start();
    test.console.text = "";
    test.console.type("lines 100000");
    await test.console.said("line 60\r\n");
    await test.machine.stop(0);
    const all = Array.from({ length: 100_000 }, (_, i) => `line ${i}\r\n`).join("");
    // The guest may still see its power button in the middle of a line, and come as far as any of the letters it says then.
    const [before = "", afterButton = ""] = test.console.text.split(/(?=p)(.*)/s);
    expect(before).toContain("line 60\r\n");
    expect(all.startsWith(before)).toBe(true);
    expect("power button\r\npower off\r\n".startsWith(afterButton)).toBe(true);
  });
});
