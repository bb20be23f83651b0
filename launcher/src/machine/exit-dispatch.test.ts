import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { constants, exitReasons, structs } from "../kvm/layouts.ts";
import { RunPage } from "../kvm/run-page.ts";
import { AddressSpace } from "../memory/address-space.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { pwriteFully } from "../sys/file-io.ts";
import { createMemfd } from "../sys/mapping.ts";
import { ExitCounter } from "./exit-counter.ts";
import { ExitDispatch } from "./exit-dispatch.ts";

const PAGE_BYTES = 12288;
const { at } = structs.kvm_run;

let memfd: OwnedFd;
let run: RunPage;
let events: string[];
let counter: ExitCounter;
let ports: AddressSpace;
let dispatch: ExitDispatch;

/** A run page is shared with the kernel: here the test writes what the kernel would. */
beforeEach(() => {
  memfd = createMemfd("run-page", PAGE_BYTES);
  run = new RunPage(memfd.fd, PAGE_BYTES);
  events = [];
  counter = new ExitCounter();
  ports = new AddressSpace("ports");
  dispatch = new ExitDispatch({
    ports,
    mmio: new AddressSpace("mmio"),
    counter,
    events: {
      tripleFault: () => events.push("triple fault"),
      powerOff: () => events.push("power off"),
      reset: () => events.push("reset"),
      unrunnable: (message) => events.push(message),
    },
  });
});

afterEach(() => {
  run[Symbol.dispose]();
  memfd[Symbol.dispose]();
});

function put(field: keyof typeof at, value: bigint | number, offset = 0): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  pwriteFully(memfd.fd, bytes, at[field] + offset);
}

function exit(reason: keyof typeof exitReasons): void {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(exitReasons[reason]);
  pwriteFully(memfd.fd, bytes, at.exit_reason);
  dispatch.dispatch(run);
}

describe("an exit", () => {
  it.each([
    ["KVM_SYSTEM_EVENT_SHUTDOWN", "power off"],
    ["KVM_SYSTEM_EVENT_RESET", "reset"],
  ] as const)("by %s is a %s", (type, event) => {
    put("system_event.type", constants[type]);
    exit("KVM_EXIT_SYSTEM_EVENT");
    expect(events).toEqual([event]);
  });

  it("by a shutdown is a triple fault", () => {
    exit("KVM_EXIT_SHUTDOWN");
    expect(events).toEqual(["triple fault"]);
    expect(counter.snapshot()).toEqual({ shutdown: 1 });
  });

  it.each(["KVM_EXIT_HLT", "KVM_EXIT_INTR"] as const)("by %s lets the guest go on", (reason) => {
    exit(reason);
    expect(events).toEqual([]);
  });

  it("by an instruction that cannot be emulated says so, with all that KVM tells", () => {
    put("internal.suberror", 1n | (2n << 32n));
    put("internal.data", 0xdead_beef_0000_0001n);
    put("internal.data", 0x0fn, 8);
    exit("KVM_EXIT_INTERNAL_ERROR");
    expect(events).toEqual([
      "KVM gave up on the guest (internal error 1, an instruction that it cannot emulate; data 0xdeadbeef00000001 0xf)",
    ]);
  });

  it("with more details than there is room for does not read beyond them", () => {
    put("internal.suberror", 3n | (0xffff_ffffn << 32n));
    exit("KVM_EXIT_INTERNAL_ERROR");
    expect(events[0]?.match(/0x0/g)?.length).toBe(16);
  });

  it("by a failed entry gives the processor's reason", () => {
    put("fail_entry.hardware_entry_failure_reason", 0x8000_0021);
    exit("KVM_EXIT_FAIL_ENTRY");
    expect(events).toEqual(["the processor refused to enter the guest (hardware reason 0x80000021)"]);
  });

  it("that nobody expects names its number", () => {
    exit("KVM_EXIT_DEBUG");
    expect(events).toEqual(["KVM left the guest with exit reason 4, which is not expected"]);
  });

  it("by a string instruction reaches the device once an element", () => {
    const written: number[][] = [];
    ports.add(0x200, 4, { read: () => {}, write: (_, data) => written.push([...data]) });
    put("io.direction", BigInt(constants.KVM_EXIT_IO_OUT) | (2n << 8n) | (0x200n << 16n) | (3n << 32n));
    put("io.data_offset", 4096);
    pwriteFully(memfd.fd, Buffer.from([1, 2, 3, 4, 5, 6]), 4096);
    exit("KVM_EXIT_IO");
    expect(written).toEqual([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
  });
});
