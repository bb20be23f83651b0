import type { Duplex } from "node:stream";
import type { ConsolePortName } from "../../../api/control.ts";
import { type Attachment, ConsolePort, type JoinOptions } from "./console-port.ts";

const MAX_ATTACHMENTS = 16;

export interface AttachOptions extends JoinOptions {
  /** When absent: the one that the guest used first. */
  readonly port?: ConsolePortName | undefined;
}

/** Too many consoles are attached already. */
export class ConsoleBusy extends Error {
  constructor() {
    super(`${MAX_ATTACHMENTS} consoles are attached already; detach one`);
    this.name = "ConsoleBusy";
  }
}

interface Visitor {
  readonly stream: Duplex;
  readonly options: JoinOptions;
  /** Joined to the serial port before the guest has used any, and not by choice. */
  readonly isGuess: boolean;
  attachment: Attachment;
}

/**
 * The guest's console: its serial port (ttyS0) and its virtio console (hvc0), each with its own output and input, since
 * a guest may well run a login on both. Who does not choose gets the one that the guest used first, so that a guest
 * with either as its console answers.
 */
export class GuestConsole {
  readonly serial: ConsolePort;
  readonly virtio: ConsolePort;
  readonly #visitors = new Set<Visitor>();
  #usedFirst: ConsolePortName | null = null;
  #closed = false;

  /** `historyBytes` is kept of each port. */
  constructor(historyBytes: number) {
    this.serial = new ConsolePort(historyBytes, () => this.#isUsed("serial"));
    this.virtio = new ConsolePort(historyBytes, () => this.#isUsed("virtio"));
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
    return this.#visitors.size;
  }
  get hasRoom(): boolean {
    return this.#visitors.size < MAX_ATTACHMENTS;
  }

  /** Joins `stream` to a port until it closes. Throws ConsoleBusy. */
  attach(stream: Duplex, { port, ...options }: AttachOptions): void {
    if (!this.hasRoom) throw new ConsoleBusy();
    const attachment = this[port ?? this.#usedFirst ?? "serial"].attach(stream, options);
    const isGuess = port === undefined && this.#usedFirst === null;
    const visitor: Visitor = { stream, options, isGuess, attachment };
    this.#visitors.add(visitor);
    stream.on("error", () => stream.destroy());
    // A reader that closed its half may be gone altogether, which a silent guest would never reveal.
    stream.once("end", () => stream.destroy());
    stream.once("close", () => {
      this.#visitors.delete(visitor);
      visitor.attachment[Symbol.dispose]();
    });
    if (this.#closed) attachment.end();
  }

  /** The machine has ended: readers get what is left, as far as they take it, and then the end of the stream. */
  close(): void {
    this.#closed = true;
    for (const { attachment } of this.#visitors) attachment.end();
  }

  #isUsed(port: ConsolePortName): void {
    if (this.#usedFirst !== null) return;
    this.#usedFirst = port;
    for (const visitor of this.#visitors) if (visitor.isGuess && port !== "serial") this.#move(visitor, port);
  }

  #move(visitor: Visitor, port: ConsolePortName): void {
    const { stream, options } = visitor;
    visitor.attachment[Symbol.dispose]();
    visitor.attachment = this[port].attach(stream, options);
    // What it typed may have waited for the other port, and it for that.
    stream.resume();
  }
}
