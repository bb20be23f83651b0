import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import type { CharacterSink } from "../../legacy/character-backend.ts";
import { InputQueue, type InputSource } from "./input-queue.ts";

/** A device that takes `room` bytes, and more after `makeRoom`. */
class Device implements CharacterSink {
  received = "";
  room = 0;
  #drained: () => void = () => {};
  input(bytes: Uint8Array): number {
    const taken = Math.min(this.room, bytes.length);
    this.received += Buffer.from(bytes.subarray(0, taken)).toString();
    this.room -= taken;
    return taken;
  }
  onDrain(listener: () => void): void {
    this.#drained = listener;
  }
  makeRoom(bytes: number): void {
    this.room += bytes;
    this.#drained();
  }
}

class Typist implements InputSource {
  paused = false;
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
}

function connected(room: number) {
  const queue = new InputQueue();
  const device = new Device();
  device.room = room;
  queue.connect(device);
  return { queue, device };
}

describe("console input", () => {
  it("goes to the device at once while that takes it", () => {
    const { queue, device } = connected(10);
    const typist = new Typist();
    queue.offer(typist, Buffer.from("hello"));
    expect(device.received).toBe("hello");
    expect(typist.paused).toBe(false);
    expect(queue.takenBytes).toBe(5);
  });

  it("pauses who types while the device is full, and goes on where it stopped", () => {
    const { queue, device } = connected(2);
    const typist = new Typist();
    queue.offer(typist, Buffer.from("hello"));
    expect(device.received).toBe("he");
    expect(typist.paused).toBe(true);
    device.makeRoom(1);
    expect(typist.paused).toBe(true);
    device.makeRoom(5);
    expect(device.received).toBe("hello");
    expect(typist.paused).toBe(false);
  });

  it("waits for the device to be made", () => {
    const queue = new InputQueue();
    const typist = new Typist();
    queue.offer(typist, Buffer.from("early"));
    expect(typist.paused).toBe(true);
    const device = new Device();
    device.room = 9;
    queue.connect(device);
    expect(device.received).toBe("early");
    expect(typist.paused).toBe(false);
  });

  it("lets waiting sources take turns", () => {
    const { queue, device } = connected(1);
    queue.offer(new Typist(), Buffer.from("aaaa"));
    queue.offer(new Typist(), Buffer.from("bb"));
    for (let i = 0; i < 5; i++) device.makeRoom(1);
    expect(device.received).toBe("abab".padStart(5, "a").concat("a"));
  });

  it("drops what is left of a source that has gone", () => {
    const { queue, device } = connected(1);
    const gone = new Typist();
    queue.offer(gone, Buffer.from("xyz"));
    queue.remove(gone);
    device.makeRoom(10);
    expect(device.received).toBe("x");
  });

  it("loses and reorders nothing of a source, whatever room the device makes", () => {
    const step = fc.oneof(
      fc.record({ source: fc.constantFrom(0, 1, 2), length: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ room: fc.integer({ min: 0, max: 9 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { queue, device } = connected(0);
        const letters = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"];
        const typists = letters.map(() => new Typist());
        const sent = letters.map(() => "");
        for (const each of steps) {
          if ("room" in each) {
            device.makeRoom(each.room);
            continue;
          }
          const typist = typists[each.source] as Typist;
          if (typist.paused) continue;
          const alphabet = letters[each.source] as string;
          const at = sent[each.source]?.length ?? 0;
          const text = Array.from({ length: each.length }, (_, i) => alphabet[(at + i) % alphabet.length]).join("");
          sent[each.source] += text;
          queue.offer(typist, Buffer.from(text));
        }
        device.makeRoom(10_000);
        const kinds = [/[a-z]/g, /[A-Z]/g, /[0-9]/g];
        expect(kinds.map((kind) => (device.received.match(kind) ?? []).join(""))).toEqual(sent);
        expect(typists.some((typist) => typist.paused)).toBe(false);
      }),
    );
  });
});
