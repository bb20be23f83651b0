import type { Socket } from "node:net";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import { Connection, type ConnectionEvents } from "./connection.ts";
import type { PacketHeader } from "./packet-header.ts";
import * as protocol from "./protocol.ts";
import { VsockUse } from "./vsock-use.ts";

/** Connections at a time, those that are being made included. With their windows this bounds what a guest can take. */
export const CONNECTIONS_MAX = 128;
/** Refusals that wait for a buffer of the guest. While there are so many, nothing more is taken from it. */
const REFUSALS_MAX = 64;
/** How long the guest has to take a connection. */
const ASK_LIMIT_MS = 10_000;
/** Ports of the host's own side: far from those that services are given. */
const FIRST_HOST_PORT = 2 ** 30;
const LAST_HOST_PORT = 2 ** 32 - 2;

export interface ConnectionsOptions {
  readonly guestCid: number;
  /** Connects to what serves a port of the host; "connect" or "close" says how it went. */
  readonly dial: (port: number) => Socket;
  /** There is a packet for the guest. */
  readonly onPacket: () => void;
}

interface Ports {
  readonly hostPort: number;
  readonly guestPort: number;
}

/** All streams of one guest: finds the one that a packet is for, and picks whose packet goes to the guest next. */
export class Connections implements ConnectionEvents {
  readonly use = new VsockUse();
  readonly #options: ConnectionsOptions;
  /** By the host's port, then by the guest's. */
  readonly #byPorts = new Map<number, Map<number, Connection>>();
  /** In order; may hold some that have nothing to say any more. */
  readonly #ready = new Set<Connection>();
  readonly #refusals: Ports[] = [];
  readonly #timers = new Map<Connection, NodeJS.Timeout>();
  #count = 0;
  #nextHostPort = FIRST_HOST_PORT;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  /** The guest does not take its refusals: nothing more is taken from it meanwhile. */
  get isBlocked(): boolean {
    return this.#refusals.length >= REFUSALS_MAX;
  }

  get hasPacket(): boolean {
    if (this.#refusals.length > 0) return true;
    for (const connection of this.#ready) {
      if (connection.hasPacket) return true;
      this.#ready.delete(connection);
    }
    return false;
  }

  /** The next packet, where `hasPacket`; answers its bytes, at most `roomBytes`. */
  fill(header: PacketHeader, roomBytes: number): Uint8Array | null {
    const refusal = this.#refusals.shift();
    if (refusal) {
      header.put(protocol.VIRTIO_VSOCK_OP_RST);
      header.address(this.#options.guestCid, refusal.hostPort, refusal.guestPort);
      return null;
    }
    const [connection] = this.#ready;
    if (!connection) throw new RangeError("there is no packet");
    const payload = connection.fill(header, roomBytes);
    this.use.receivedBytes += payload?.length ?? 0;
    header.address(this.#options.guestCid, connection.hostPort, connection.guestPort);
    // Behind the others: each gets its turn.
    this.#ready.delete(connection);
    if (connection.hasPacket) this.#ready.add(connection);
    return payload;
  }

  /** A packet of the guest: `header`, and what follows it in `chain`. */
  receive(header: PacketHeader, chain: DescriptorChain, memory: GuestMemory): void {
    const { guestCid } = this.#options;
    // Section 5.10.6.2: a packet in another's name, or for another, is none of ours.
    if (header.sourceCid !== guestCid || header.destinationCid !== protocol.HOST_CID) {
      this.use.droppedPackets++;
      return;
    }
    const connection = this.#byPorts.get(header.destinationPort)?.get(header.sourcePort);
    if (header.operation === protocol.VIRTIO_VSOCK_OP_REQUEST || !connection) {
      this.#receiveNew(header, connection);
      return;
    }
    const { lengthBytes } = header;
    const isData = header.operation === protocol.VIRTIO_VSOCK_OP_RW;
    const isWhole = lengthBytes <= chain.readableBytes - protocol.HEADER_BYTES;
    const isSound = header.type === protocol.VIRTIO_VSOCK_TYPE_STREAM && (!isData || isWhole);
    if (!isSound || (isData && !connection.mayReceive(lengthBytes))) {
      this.use.droppedPackets++;
      connection.close(true);
      return;
    }
    const payload = isData && lengthBytes > 0 ? Buffer.allocUnsafeSlow(lengthBytes) : null;
    if (payload) chain.read(memory, protocol.HEADER_BYTES, payload);
    connection.receive(header, payload);
    if (payload) this.use.transmittedBytes += lengthBytes;
  }

  /** Asks the guest to take a connection to one of its ports; the socket is closed where it does not. */
  connect(socket: Socket, guestPort: number): void {
    const hostPort = this.#freeHostPort(guestPort);
    const connection = this.#count < CONNECTIONS_MAX ? this.#add({ hostPort, guestPort }, socket, "host") : undefined;
    if (!connection) {
      this.use.refused++;
      socket.destroy();
      return;
    }
    const late = () => connection.close(true);
    this.#timers.set(connection, setTimeout(late, ASK_LIMIT_MS).unref());
    this.ready(connection);
  }

  /** Closes all without a word to the guest. */
  closeAll(): void {
    for (const connection of [...this.#byPorts.values()].flatMap((each) => [...each.values()])) connection.close(false);
    this.#refusals.length = 0;
    this.#ready.clear();
  }

  ready(connection: Connection): void {
    this.#ready.add(connection);
    this.#options.onPacket();
  }

  opened(connection: Connection): void {
    this.#forgetTimer(connection);
    if (connection.origin === "host") this.use.openedByHost++;
    else this.use.openedByGuest++;
  }

  ended(connection: Connection, resets: boolean): void {
    const { hostPort, guestPort } = connection;
    this.#forgetTimer(connection);
    this.#ready.delete(connection);
    if (!connection.wasOpened) this.use.refused++;
    const ofPort = this.#byPorts.get(hostPort);
    if (ofPort?.delete(guestPort)) this.#count--;
    if (ofPort?.size === 0) this.#byPorts.delete(hostPort);
    this.use.connections = this.#count;
    if (resets) this.#refuse({ hostPort, guestPort });
  }

  /** A packet of no connection, or one that asks for one. */
  #receiveNew(header: PacketHeader, known: Connection | undefined): void {
    const ports = { hostPort: header.destinationPort, guestPort: header.sourcePort };
    if (header.operation === protocol.VIRTIO_VSOCK_OP_RST) return;
    // The guest has forgotten it.
    known?.close(false);
    const isRequest =
      header.operation === protocol.VIRTIO_VSOCK_OP_REQUEST && header.type === protocol.VIRTIO_VSOCK_TYPE_STREAM;
    if (!isRequest || known || this.#count >= CONNECTIONS_MAX) {
      this.use.refused += isRequest ? 1 : 0;
      this.use.droppedPackets += isRequest ? 0 : 1;
      this.#refuse(ports);
      return;
    }
    const connection = this.#add(ports, this.#options.dial(ports.hostPort), "guest");
    connection.learn(header);
  }

  #add(ports: Ports, socket: Socket, origin: "guest" | "host"): Connection {
    const connection = new Connection({ ...ports, socket, events: this }, origin);
    const ofPort = this.#byPorts.get(ports.hostPort) ?? new Map<number, Connection>();
    this.#byPorts.set(ports.hostPort, ofPort.set(ports.guestPort, connection));
    this.#count++;
    this.use.connections = this.#count;
    return connection;
  }

  #refuse(ports: Ports): void {
    this.#refusals.push(ports);
    this.#options.onPacket();
  }

  /** There are more ports than connections. */
  #freeHostPort(guestPort: number): number {
    for (;;) {
      const port = this.#nextHostPort;
      this.#nextHostPort = port === LAST_HOST_PORT ? FIRST_HOST_PORT : port + 1;
      if (!this.#byPorts.get(port)?.has(guestPort)) return port;
    }
  }

  #forgetTimer(connection: Connection): void {
    clearTimeout(this.#timers.get(connection));
    this.#timers.delete(connection);
  }
}
