import { once } from "node:events";
import { connect, createServer, type TLSSocket } from "node:tls";
import { MEMORY_FRAME, MEMORY_HEADER_BYTES } from "../protocol.ts";
import { type MachineTls, tlsOptions } from "../tls.ts";

/** One frame as it stands in the stream, header and payload. */
export interface RelayedFrame {
  readonly channel: "control" | "memory";
  readonly to: "target" | "source";
  /** Which of the memory connections; 0 of the control connection. */
  readonly connection: number;
  readonly type: number;
  readonly bytes: Buffer;
}

/**
 * What becomes of a frame: what goes on in its place, or where the link ends: with it (it is lost), or behind it; or that from
 * it on nothing goes on either way, of all connections or of those for memory, which stay open.
 */
export type RelayVerdict = readonly Uint8Array[] | "cut" | "cutBehind" | "stall" | "stallMemory";

export interface TlsRelayOptions {
  /** Where it listens; the target is at the same two ports of another address, which is what its answer says. */
  readonly address: string;
  readonly targetAddress: string;
  readonly port: number;
  readonly tls: MachineTls;
  /** Asked of each frame; all go on as they are without. */
  readonly onFrame?: (frame: RelayedFrame) => RelayVerdict;
}

/** Stands between the two launchers of a migration, with their certificate, and sees and changes what they say. */
export class TlsRelay implements AsyncDisposable {
  readonly #options: TlsRelayOptions;
  readonly #servers: ReturnType<typeof createServer>[] = [];
  readonly #sockets = new Set<TLSSocket>();
  readonly #stalled = new Set<RelayedFrame["channel"]>();
  #memoryConnections = 0;

  constructor(options: TlsRelayOptions) {
    this.#options = options;
  }

  async listen(): Promise<this> {
    for (const channel of ["control", "memory"] as const) {
      const server = createServer({ ...tlsOptions(this.#options.tls), requestCert: true }, (socket) =>
        this.#join(channel, socket),
      );
      this.#servers.push(server);
      const { address, port } = this.#options;
      server.listen(channel === "control" ? port : port + 1, address);
      await once(server, "listening");
    }
    return this;
  }

  /** Ends all connections at once, as a link that breaks. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(channel: RelayedFrame["channel"], source: TLSSocket): void {
    const { targetAddress, port, tls } = this.#options;
    const target = connect({
      host: targetAddress,
      port: channel === "control" ? port : port + 1,
      ...tlsOptions(tls),
      checkServerIdentity: () => undefined,
    });
    const connection = channel === "control" ? 0 : this.#memoryConnections++;
    this.#pass({ channel, to: "target", connection }, source, target);
    this.#pass({ channel, to: "source", connection }, target, source);
  }

  #pass(way: Pick<RelayedFrame, "channel" | "to" | "connection">, from: TLSSocket, to: TLSSocket): void {
    this.#sockets.add(from);
    const framer = new Framer(way.channel);
    from.on("data", (chunk: Buffer) => {
      for (const { type, bytes } of framer.push(chunk)) {
        if (this.#stalled.has(way.channel)) {
          // What is sent to it piles up, as on a link that takes nothing.
          from.pause();
          return;
        }
        const verdict = this.#options.onFrame?.({ ...way, type, bytes }) ?? [bytes];
        if (verdict === "cut") {
          this.cut();
          return;
        }
        if (verdict === "cutBehind") {
          to.write(bytes, () => this.cut());
          return;
        }
        if (verdict === "stall" || verdict === "stallMemory") {
          this.#stalled.add("memory");
          if (verdict === "stall") this.#stalled.add("control");
          // Of a stalled memory connection the word that came by the control connection goes on.
          if (this.#stalled.has(way.channel)) from.pause();
          else to.write(bytes);
          return;
        }
        for (const each of verdict) to.write(each);
      }
    });
    from.on("error", () => {});
    from.on("close", () => {
      this.#sockets.delete(from);
      to.end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

const CONTROL_HEADER_BYTES = 12;
/** Their length is not that of a payload. */
const BARE: readonly number[] = [MEMORY_FRAME.zeroes, MEMORY_FRAME.passEnd];

class Framer {
  readonly #channel: RelayedFrame["channel"];
  #held: Buffer = Buffer.alloc(0);

  constructor(channel: RelayedFrame["channel"]) {
    this.#channel = channel;
  }

  push(chunk: Buffer): { type: number; bytes: Buffer }[] {
    this.#held = Buffer.concat([this.#held, chunk]);
    const found = [];
    for (let frame = this.#take(); frame; frame = this.#take()) found.push(frame);
    return found;
  }

  #take(): { type: number; bytes: Buffer } | null {
    const isControl = this.#channel === "control";
    const headerBytes = isControl ? CONTROL_HEADER_BYTES : MEMORY_HEADER_BYTES;
    if (this.#held.length < headerBytes) return null;
    const type = isControl ? this.#held.readUInt16LE(0) : this.#held.readUInt32LE(0);
    const payloadBytes = !isControl && BARE.includes(type) ? 0 : this.#held.readUInt32LE(4);
    if (this.#held.length < headerBytes + payloadBytes) return null;
    const bytes = this.#held.subarray(0, headerBytes + payloadBytes);
    this.#held = this.#held.subarray(headerBytes + payloadBytes);
    return { type, bytes };
  }
}
