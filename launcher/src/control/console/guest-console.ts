import type { Duplex } from "node:stream";
import type { ConsolePortName } from "../../../api/control.ts";
import { type Attachment, ConsolePort, type JoinOptions } from "./console-port.ts";

const MAX_ATTACHMENTS = 16;

export interface AttachOptions extends JoinOptions {
  /** When absent: the default port. */
  readonly port?: ConsolePortName | undefined;
}

/** Too many consoles are attached already. */
export class ConsoleBusy extends Error {
  constructor() {
    super(`${MAX_ATTACHMENTS} consoles are attached already; detach one`);
    this.name = "ConsoleBusy";
  }
}

/**
 * Which port a guest's users want who do not say: the one that Linux makes /dev/console, the last that its command line
 * names. Firmware speaks on the serial port, and its command line is not known.
 */
export function defaultPort(commandLine: string): ConsolePortName {
  const named = commandLine.split(" ").filter((word) => word.startsWith("console="));
  return named.at(-1)?.startsWith("console=hvc") ? "virtio" : "serial";
}

/**
 * The guest's console: its serial port (ttyS0) and its virtio console (hvc0), each with its own output and input, since
 * a guest may well run a login on both.
 */
export class GuestConsole {
  readonly serial: ConsolePort;
  readonly virtio: ConsolePort;
  readonly #defaultPort: ConsolePortName;
  readonly #attachments = new Set<Attachment>();
  #closed = false;

  /** `historyBytes` is kept of each port. */
  constructor(historyBytes: number, defaultPort: ConsolePortName = "serial") {
    this.serial = new ConsolePort(historyBytes);
    this.virtio = new ConsolePort(historyBytes);
    this.#defaultPort = defaultPort;
  }

  get outputBytes(): number {
    return this.serial.outputBytes + this.virtio.outputBytes;
  }
  get inputBytes(): number {
    return this.serial.inputBytes + this.virtio.inputBytes;
  }
  /** Bytes that slow readers did not get, summed over readers. */
  get droppedBytes(): number {
    return this.serial.droppedBytes + this.virtio.droppedBytes;
  }
  get attached(): number {
    return this.#attachments.size;
  }
  get hasRoom(): boolean {
    return this.#attachments.size < MAX_ATTACHMENTS;
  }

  /** What the guest printed last on each port, for the launcher that it goes on in. */
  history(): { readonly serial: Uint8Array; readonly virtio: Uint8Array } {
    return { serial: this.serial.history(), virtio: this.virtio.history() };
  }

  restore({ serial, virtio }: { readonly serial: Uint8Array; readonly virtio: Uint8Array }): void {
    this.serial.restoreHistory(serial);
    this.virtio.restoreHistory(virtio);
  }

  /** Joins `stream` to a port until it closes. Throws ConsoleBusy. */
  attach(stream: Duplex, { port, ...options }: AttachOptions): void {
    if (!this.hasRoom) throw new ConsoleBusy();
    const attachment = this[port ?? this.#defaultPort].attach(stream, options);
    this.#attachments.add(attachment);
    stream.on("error", () => stream.destroy());
    // A reader that closed its half may be gone altogether, which a silent guest would never reveal.
    stream.once("end", () => stream.destroy());
    stream.once("close", () => {
      this.#attachments.delete(attachment);
      attachment[Symbol.dispose]();
    });
    if (this.#closed) attachment.end();
  }

  /** The machine has ended: readers get what is left, as far as they take it, and then the end of the stream. */
  close(): void {
    this.#closed = true;
    for (const attachment of this.#attachments) attachment.end();
  }
}
