import { once } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "@jest/globals";
import type { ConsolePort } from "./console-port.ts";
import { ConsoleBusy, defaultPort, GuestConsole } from "./guest-console.ts";
import { Terminal } from "./testing/terminal.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const reader = { write: false, history: false };
const writer = { write: true, history: true };

/** A guest that takes what is typed at a port. */
function listen(port: ConsolePort) {
  const heard = { text: "" };
  port.connect({
    input: (input) => {
      heard.text += Buffer.from(input).toString();
      return input.length;
    },
    onDrain: () => {},
  });
  return heard;
}

describe("the guest console", () => {
  it.each([
    ["serial", "console=ttyS0 quiet"],
    ["serial", ""],
    ["serial", "console=hvc0 console=ttyS0,115200"],
    ["serial", "root=/dev/vda init=console=hvc0"],
    ["virtio", "console=hvc0"],
    ["virtio", "earlyprintk=ttyS0 console=ttyS0 console=hvc0 quiet"],
  ] as const)("joins who does not choose to the %s port where the command line is %j", async (port, commandLine) => {
    const console = new GuestConsole(1024, defaultPort(commandLine));
    const heard = { serial: listen(console.serial), virtio: listen(console.virtio) };
    const terminal = new Terminal();
    console.attach(terminal, writer);
    console.serial.output(bytes("serial"));
    console.virtio.output(bytes("virtio"));
    terminal.type("root");
    await nextTurn();
    expect([terminal.text, heard[port].text, heard.serial.text + heard.virtio.text]).toEqual([port, "root", "root"]);
  });

  it("joins who chooses to that port", async () => {
    const console = new GuestConsole(1024, "serial");
    const heard = listen(console.virtio);
    const terminal = new Terminal();
    console.attach(terminal, { ...writer, port: "virtio" });
    console.serial.output(bytes("serial "));
    console.virtio.output(bytes("virtio "));
    terminal.type("x");
    await nextTurn();
    expect([terminal.text, heard.text]).toEqual(["virtio ", "x"]);
  });

  it("counts both ports", async () => {
    const console = new GuestConsole(64);
    listen(console.serial);
    listen(console.virtio);
    console.serial.output(bytes("12345"));
    console.virtio.output(bytes("123"));
    for (const port of ["serial", "virtio"] as const) {
      const terminal = new Terminal();
      console.attach(terminal, { ...writer, port });
      terminal.type("ab");
    }
    await nextTurn();
    expect([console.outputBytes, console.inputBytes, console.droppedBytes, console.attached]).toEqual([8, 4, 0, 2]);
  });

  it("forgets who detaches, and who fails", async () => {
    const console = new GuestConsole(64);
    const [polite, rude] = [new Terminal(), new Terminal()];
    console.attach(polite, reader);
    console.attach(rude, reader);
    polite.push(null);
    rude.destroy(new Error("connection reset"));
    await Promise.all([polite, rude].map((terminal) => new Promise((closed) => terminal.once("close", closed))));
    expect(console.attached).toBe(0);
    console.serial.output(bytes("goes on"));
    await nextTurn();
  });

  it("refuses one attachment too many", () => {
    const console = new GuestConsole(64);
    for (let i = 0; i < 16; i++) console.attach(new Terminal(), { ...reader, port: i % 2 ? "serial" : "virtio" });
    expect(() => console.attach(new Terminal(), reader)).toThrow(ConsoleBusy);
  });

  it("ends its readers behind the last output when the machine has ended", async () => {
    const console = new GuestConsole(64);
    const terminal = new Terminal();
    console.attach(terminal, reader);
    console.serial.output(bytes("power down\n"));
    console.close();
    await once(terminal, "finish");
    expect(terminal.text).toBe("power down\n");
    const late = new Terminal();
    console.attach(late, { write: false, history: true });
    await once(late, "finish");
    expect(late.text).toBe("power down\n");
  });
});
