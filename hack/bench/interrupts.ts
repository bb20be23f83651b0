/**
 * What an interrupt costs that somebody else than the launcher's process causes (vhost-net signals an eventfd): through the
 * event loop, which sends the message by KVM_SIGNAL_MSI, and by KVM_IRQFD, where KVM sends it. Needs /dev/kvm.
 *
 *   node hack/bench/interrupts.ts [--interrupts N]
 *
 * Prints a table on stderr and JSON on stdout: medians of five runs of N interrupts each, in turn, microseconds from the
 * signal until KVM has the message. The signal itself, a system call of this process, is part of both. The guest is halted.
 */
import { parseArgs } from "node:util";
import { KvmMsiSink } from "../../launcher/src/kvm/msi.ts";
import { KvmMsiWires } from "../../launcher/src/kvm/msi-wires.ts";
import { TestMachine } from "../../launcher/src/machine/testing/test-machine.ts";
import { EventFd } from "../../launcher/src/sys/eventfd.ts";
import { watchFd } from "../../launcher/src/sys/fd-watch.ts";
import { medians, round, table } from "./statistics.ts";

const RUNS = 5;
const MESSAGE = { addressLow: 0xfee00000, addressHigh: 0, data: 0x50 };

const { values } = parseArgs({ options: { interrupts: { type: "string", default: "2000" } } });
const interrupts = Number(values.interrupts);
if (!(interrupts >= 1)) throw new RangeError("--interrupts 1 or more");

/** As the launcher did it for vhost-net before. */
async function byEventLoop(vmFd: number, event: EventFd): Promise<number> {
  const sink = new KvmMsiSink(vmFd);
  let sent = Promise.withResolvers<void>();
  using _watch = watchFd(event.fd, { readable: true }, () => {
    if (!event.drain()) return;
    sink.signalMsi(MESSAGE.addressLow, MESSAGE.addressHigh, MESSAGE.data);
    sent.resolve();
  });
  const start = performance.now();
  for (let i = 0; i < interrupts; i++) {
    sent = Promise.withResolvers<void>();
    event.signal();
    await sent.promise;
  }
  return (1000 * (performance.now() - start)) / interrupts;
}

function byKvm(vmFd: number, event: EventFd): number {
  using wire = new KvmMsiWires(vmFd).wire(event);
  wire?.set(MESSAGE);
  const start = performance.now();
  for (let i = 0; i < interrupts; i++) event.signal();
  return (1000 * (performance.now() - start)) / interrupts;
}

const rows: { eventLoop: number; irqfd: number }[] = [];
await using test = await TestMachine.start();
await test.machine.pause();
const { vmFd } = test.machine.memory;
using event = new EventFd();
for (let run = 0; run < RUNS; run++)
  rows.push({ eventLoop: await byEventLoop(vmFd, event), irqfd: byKvm(vmFd, event) });
const middle = medians(rows, 2);
const summary = { ...middle, ratio: round(middle.irqfd / middle.eventLoop, 2) };
process.stderr.write(`${table([summary])}\n`);
process.stdout.write(`${JSON.stringify({ runs: rows, medians: summary })}\n`);
