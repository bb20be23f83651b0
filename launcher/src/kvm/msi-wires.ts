import type { EventFd } from "../sys/eventfd.ts";
import type { MsiMessage, MsiWire, MsiWires } from "./interrupts.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { constants, structs } from "./layouts.ts";
import { newStruct } from "./struct-view.ts";

/** Pins of the IOAPIC; those below PIC_PINS are pins of the PICs, too. */
const IOAPIC_PINS = 24;
const PIC_PINS = 16;
const PINS_A_PIC = 8;
const FIRST_MESSAGE_GSI = IOAPIC_PINS;
/** KVM_MAX_IRQ_ROUTES is 4096, of which the pins have some; no machine has nearly as many queues. */
const MESSAGE_GSIS = 1024;

/**
 * Wires by KVM_IRQFD: each has a GSI of its own, which KVM's table of routes leads to a message. The table is set as a
 * whole, and begins with what KVM has by itself: the pins. It stays KVM's own while there is no wire.
 */
export class KvmMsiWires implements MsiWires {
  readonly #vmFd: number;
  readonly #taken = new Set<number>();
  readonly #messages = new Map<number, MsiMessage>();

  constructor(vmFd: number) {
    this.#vmFd = vmFd;
  }

  wire(event: EventFd): MsiWire | null {
    const gsi = this.#freeGsi();
    if (gsi === undefined) return null;
    this.#taken.add(gsi);
    return new KvmMsiWire({
      connect: (isConnected) => this.#connect(event, gsi, isConnected),
      route: (message) => this.#route(gsi, message),
      free: () => this.#taken.delete(gsi),
    });
  }

  #freeGsi(): number | undefined {
    for (let gsi = FIRST_MESSAGE_GSI; gsi < FIRST_MESSAGE_GSI + MESSAGE_GSIS; gsi++)
      if (!this.#taken.has(gsi)) return gsi;
    return undefined;
  }

  #connect(event: EventFd, gsi: number, isConnected: boolean): void {
    const { at } = structs.kvm_irqfd;
    const argument = newStruct("kvm_irqfd");
    argument.setUint32(at.fd, event.fd, true);
    argument.setUint32(at.gsi, gsi, true);
    argument.setUint32(at.flags, isConnected ? 0 : constants.KVM_IRQFD_FLAG_DEASSIGN, true);
    kvmIoctl(this.#vmFd, "KVM_IRQFD", argument);
    // KVM has sent for what the eventfd held, and left it there; later signals it takes out as they come.
    if (isConnected) event.drain();
  }

  #route(gsi: number, message: MsiMessage | null): void {
    if (message) this.#messages.set(gsi, message);
    else this.#messages.delete(gsi);
    kvmIoctl(this.#vmFd, "KVM_SET_GSI_ROUTING", routingTable(this.#messages));
  }
}

/** What one wire asks of the table and of the eventfd. */
interface WireActions {
  connect(isConnected: boolean): void;
  route(message: MsiMessage | null): void;
  free(): void;
}

class KvmMsiWire implements MsiWire {
  readonly #actions: WireActions;
  /** What the table has; stays there while the eventfd is not connected. */
  #routed: MsiMessage | null = null;
  #isConnected = false;

  constructor(actions: WireActions) {
    this.#actions = actions;
  }

  set(message: MsiMessage | null): void {
    if (message && !isSame(message, this.#routed)) {
      this.#routed = message;
      this.#actions.route(message);
    }
    if ((message !== null) === this.#isConnected) return;
    this.#isConnected = message !== null;
    this.#actions.connect(this.#isConnected);
  }

  [Symbol.dispose](): void {
    this.set(null);
    if (this.#routed) this.#actions.route(null);
    this.#routed = null;
    this.#actions.free();
  }
}

function isSame(a: MsiMessage, b: MsiMessage | null): boolean {
  return a.addressLow === b?.addressLow && a.addressHigh === b.addressHigh && a.data === b.data;
}

/** struct kvm_irq_routing: the pins as KVM_CREATE_IRQCHIP routes them, and the messages. */
function routingTable(messages: ReadonlyMap<number, MsiMessage>): DataView {
  const { at, sizeBytes } = structs.kvm_irq_routing_entry;
  const count = IOAPIC_PINS + PIC_PINS + messages.size;
  const table = newStruct("kvm_irq_routing", count * sizeBytes);
  table.setUint32(structs.kvm_irq_routing.at.nr, count, true);
  let entry: number = structs.kvm_irq_routing.at.entries;
  const put = (gsi: number, type: number, fields: readonly (readonly [offset: number, value: number])[]) => {
    table.setUint32(entry + at.gsi, gsi, true);
    table.setUint32(entry + at.type, type, true);
    for (const [offset, value] of fields) table.setUint32(entry + offset, value, true);
    entry += sizeBytes;
  };
  const pin = (gsi: number, chip: number, number: number) =>
    put(gsi, constants.KVM_IRQ_ROUTING_IRQCHIP, [
      [at["u.irqchip.irqchip"], chip],
      [at["u.irqchip.pin"], number],
    ]);
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    pin(gsi, constants.KVM_IRQCHIP_IOAPIC, gsi);
    const pic = gsi < PINS_A_PIC ? constants.KVM_IRQCHIP_PIC_MASTER : constants.KVM_IRQCHIP_PIC_SLAVE;
    if (gsi < PIC_PINS) pin(gsi, pic, gsi % PINS_A_PIC);
  }
  for (const [gsi, { addressLow, addressHigh, data }] of messages)
    put(gsi, constants.KVM_IRQ_ROUTING_MSI, [
      [at["u.msi.address_lo"], addressLow],
      [at["u.msi.address_hi"], addressHigh],
      [at["u.msi.data"], data],
    ]);
  return table;
}
