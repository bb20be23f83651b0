import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { MsiMessage, MsiWire, MsiWires } from "../../kvm/interrupts.ts";
import { Msix } from "../../pci/msix.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { until } from "../../testing/until.ts";
import { QueueWires } from "./queue-wires.ts";

const ENABLE = 1 << 15;
const FUNCTION_MASK = 1 << 14;
const ENTRY_BYTES = 16;
const NO_VECTOR = 0xffff;

/** As KVM: a signal of a connected eventfd is taken and sent, and one that was held is sent when it is connected. */
class FakeWires implements MsiWires {
  readonly sent: number[] = [];
  message: MsiMessage | null = null;
  event: EventFd | undefined;
  count = 0;

  wire(): MsiWire {
    this.count++;
    return {
      set: (message) => {
        this.message = message;
        this.settle();
      },
      [Symbol.dispose]: () => {
        this.message = null;
        this.count--;
      },
    };
  }

  settle(): void {
    if (this.message && this.event?.drain()) this.sent.push(this.message.data);
  }
}

let event: EventFd;
let wires: FakeWires;
let msix: Msix;
let vector: number;
/** Data of messages of this process. */
let own: number[];
/** Signals that the event loop took. */
let looped: number;
let queueWires: QueueWires;

beforeEach(() => {
  event = new EventFd();
  wires = new FakeWires();
  wires.event = event;
  own = [];
  looped = 0;
  vector = 1;
  msix = new Msix(3, { signalMsi: (_low, _high, data) => void own.push(data) });
  make(wires);
});
afterEach(() => {
  queueWires.drop();
  event[Symbol.dispose]();
});

function make(ofKvm: MsiWires | undefined): void {
  const interrupt = () => {
    looped++;
    msix.trigger(vector);
  };
  queueWires = new QueueWires({ msix, wires: ofKvm, vectorOf: () => vector, interrupt });
}

function word(entry: number, dword: number, value: number): void {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value, true);
  msix.writeTable(entry * ENTRY_BYTES + 4 * dword, data);
}

function program(entry: number, data: number, isMasked = false): void {
  word(entry, 0, 0xfee00000);
  word(entry, 2, data);
  word(entry, 3, isMasked ? 1 : 0);
}

function signal(): void {
  event.signal();
  wires.settle();
}

/** What was signalled stays where it is: nothing in this process takes it. */
async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

function pendingBits(): number {
  const bits = new Uint8Array(1);
  msix.readPending(0, bits);
  return bits[0] ?? 0;
}

describe("interrupts that KVM sends for a queue", () => {
  beforeEach(() => {
    program(1, 41);
    program(2, 42);
    msix.setControl(ENABLE);
  });

  it("do not come through the event loop", async () => {
    using _connected = queueWires.connect(0, event);
    signal();
    await turns();
    expect([wires.sent, own, looped]).toEqual([[41], [], 0]);
  });

  it.each([
    ["its vector", () => program(1, 41, true), () => program(1, 41)],
    ["the function", () => msix.setControl(ENABLE | FUNCTION_MASK), () => msix.setControl(ENABLE)],
  ])("wait while %s is masked, once for all that came", async (_, mask, unmask) => {
    using _connected = queueWires.connect(0, event);
    mask();
    signal();
    signal();
    await turns();
    expect([wires.sent, own]).toEqual([[], []]);
    unmask();
    expect([wires.sent, own]).toEqual([[41], []]);
  });

  it("show among the pending bits while they are masked, and are sent once then", () => {
    using _connected = queueWires.connect(0, event);
    program(1, 41, true);
    expect(pendingBits()).toBe(0);
    signal();
    expect(pendingBits()).toBe(2);
    program(1, 41);
    expect([wires.sent, own, pendingBits()]).toEqual([[], [41], 0]);
  });

  it("follow the table and the queue's vector", () => {
    using _connected = queueWires.connect(0, event);
    program(1, 43);
    signal();
    vector = 2;
    queueWires.update();
    signal();
    expect(wires.sent).toEqual([43, 42]);
  });

  it("go nowhere but to interrupt controllers", () => {
    using _connected = queueWires.connect(0, event);
    word(1, 0, 0x1000);
    signal();
    expect([wires.sent, own]).toEqual([[], []]);
  });

  it("are not lost when the connection ends", () => {
    const connected = queueWires.connect(0, event);
    program(1, 41, true);
    signal();
    connected[Symbol.dispose]();
    expect(wires.count).toBe(0);
    program(1, 41);
    expect(own).toEqual([41]);
  });
});

describe("interrupts of the event loop", () => {
  it("are those of a queue without MSI-X, or without a vector", async () => {
    using _connected = queueWires.connect(0, event);
    signal();
    await until(() => looped === 1);
    program(1, 41);
    msix.setControl(ENABLE);
    vector = NO_VECTOR;
    queueWires.update();
    signal();
    await until(() => looped === 2);
    vector = 1;
    queueWires.update();
    signal();
    await turns();
    expect([wires.sent, looped]).toEqual([[41], 2]);
  });

  it("are those of a KVM without wires", async () => {
    make(undefined);
    program(1, 41);
    msix.setControl(ENABLE);
    using _connected = queueWires.connect(0, event);
    signal();
    await until(() => own.length === 1);
    expect([own, looped]).toEqual([[41], 1]);
  });
});
