import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it, jest } from "@jest/globals";
import { ConsolePort } from "./console-port.ts";
import { Terminal } from "./testing/terminal.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const reader = { write: false, history: false };

describe("a port of the guest console", () => {
  it("gives output to all readers, and history only to those who ask", async () => {
    const console = new ConsolePort(1024);
    console.output(bytes("boot "));
    const [late, early] = [new Terminal(), new Terminal()];
    console.attach(late, { write: false, history: true });
    console.attach(early, reader);
    console.output(bytes("login: "));
    await nextTurn();
    expect(late.text).toBe("boot login: ");
    expect(early.text).toBe("login: ");
  });

  it("keeps exactly as much history as it was told", async () => {
    const console = new ConsolePort(4);
    console.output(bytes("abcdefgh"));
    const terminal = new Terminal();
    console.attach(terminal, { write: false, history: true });
    await nextTurn();
    expect(terminal.text).toBe("efgh");
  });

  it("does not hold on to the bytes of the guest's buffer", async () => {
    const console = new ConsolePort(64);
    const terminal = new Terminal();
    console.attach(terminal, reader);
    const buffer = bytes("first");
    console.output(buffer);
    buffer.fill(0);
    await nextTurn();
    expect(terminal.text).toBe("first");
  });

  it("drops a slow reader behind and tells it how much it lost, while others get all", async () => {
    const console = new ConsolePort(0);
    const [slow, quick] = [new Terminal(), new Terminal()];
    slow.stuck = true;
    console.attach(slow, reader);
    console.attach(quick, reader);
    const line = `${"x".repeat(1023)}\n`;
    for (let i = 0; i < 1000; i++) {
      console.output(bytes(line));
      await nextTurn();
    }
    expect(quick.text).toHaveLength(1000 * 1024);
    expect(slow.writableLength).toBeLessThan(64 * 1024);
    slow.unstick();
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    const marker = /\r\n\[console: (\d+) bytes dropped, this reader is too slow\]\r\n/;
    const lost = Number(marker.exec(slow.text)?.[1]);
    expect(slow.text.replace(marker, "")).toHaveLength(1000 * 1024 - lost);
    expect(console.droppedBytes).toBe(lost);
  });

  it("gives a flood within one turn of the loop to a reader that keeps up", async () => {
    const console = new ConsolePort(0);
    const terminal = new Terminal();
    jest.spyOn(terminal, "write").mockImplementation((chunk: Uint8Array) => {
      terminal.text += Buffer.from(chunk).toString();
      return true;
    });
    console.attach(terminal, reader);
    for (let i = 0; i < 1000; i++) console.output(bytes("y".repeat(1024)));
    await nextTurn();
    expect(terminal.text.replaceAll("y", "")).toBe("");
    expect(terminal.text).toHaveLength(1000 * 1024);
  });

  it("carries input of writers to the device and drops what readers send", async () => {
    const console = new ConsolePort(64);
    let typed = "";
    console.connect({
      input: (input) => {
        typed += Buffer.from(input).toString();
        return input.length;
      },
      onDrain: () => {},
    });
    const [writer, watcher] = [new Terminal(), new Terminal()];
    console.attach(writer, { write: true, history: false });
    console.attach(watcher, reader);
    watcher.type("evil\n");
    writer.type("ls\n");
    await nextTurn();
    expect(typed).toBe("ls\n");
    expect(console.inputBytes).toBe(3);
  });
});
