import { once } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "@jest/globals";
import type { ConsolePort } from "./console-port.ts";
import { ConsoleBusy, GuestConsole } from "./guest-console.ts";
import { Terminal } from "./testing/terminal.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const reader = { write: false, history: false };
const writer = { write: true, history: true };

/** A guest that takes `room` bytes of what is typed at a port. */
function listen(port: ConsolePort, room = Number.POSITIVE_INFINITY) {
  const heard = { text: "" };
  port.connect({
    input: (input) => {
      const taken = Math.min(input.length, room - heard.text.length);
      heard.text += Buffer.from(input.subarray(0, taken)).toString();
      return taken;
    },
    onDrain: () => {},
  });
  return heard;
}

describe("the guest console", () => {
  it.each(["serial", "virtio"] as const)(
    "joins who does not choose to the port that the guest used first: %s",
    async (first) => {
      const console = new GuestConsole(1024);
      const heard = { serial: listen(console.serial), virtio: listen(console.virtio) };
      console[first].output(bytes("login: "));
      console[first === "serial" ? "virtio" : "serial"].output(bytes("another login: "));
      const terminal = new Terminal();
      console.attach(terminal, writer);
      terminal.type("root");
      await nextTurn();
      expect(terminal.text).toBe("login: ");
      expect([heard[first].text, heard.serial.text + heard.virtio.text]).toEqual(["root", "root"]);
    },
  );

  it("joins who chooses to that port, whatever the guest uses", async () => {
    const console = new GuestConsole(1024);
    const heard = listen(console.virtio);
    const early = new Terminal();
    console.attach(early, { ...writer, port: "virtio" });
    console.serial.output(bytes("serial "));
    console.virtio.output(bytes("virtio "));
    const late = new Terminal();
    console.attach(late, { ...writer, port: "virtio" });
    late.type("x");
    await nextTurn();
    expect([early.text, late.text, heard.text]).toEqual(["virtio ", "virtio ", "x"]);
  });

  it("moves who came before the guest used any port to the one that it uses", async () => {
    const console = new GuestConsole(0);
    const heard = { serial: listen(console.serial, 4), virtio: listen(console.virtio) };
    const [guess, choice] = [new Terminal(), new Terminal()];
    console.attach(guess, { write: true, history: false });
    console.attach(choice, { write: true, history: false, port: "serial" });
    guess.type("too early");
    await nextTurn();
    console.virtio.output(bytes("hvc0 login: "));
    console.serial.output(bytes("something"));
    await nextTurn();
    guess.type("root");
    await nextTurn();
    expect([guess.text, choice.text]).toEqual(["hvc0 login: ", "something"]);
    expect(heard.virtio.text).toBe("root");
    expect(console.attached).toBe(2);
  });

  it("leaves who came before the guest used any port at the serial port, once that speaks", async () => {
    const console = new GuestConsole(0);
    const terminal = new Terminal();
    console.attach(terminal, reader);
    console.serial.output(bytes("boots"));
    console.virtio.output(bytes("later"));
    await nextTurn();
    expect(terminal.text).toBe("boots");
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
