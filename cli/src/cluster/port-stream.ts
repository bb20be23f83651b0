import { Duplex } from "node:stream";
import type WebSocket from "ws";
import { CliError } from "../exit-codes.ts";
import type { Cluster } from "./cluster.ts";

/** Streams of the kubelet's port forwarding, by their first byte; each begins with the port, two bytes. */
const DATA = 0;
const ERROR = 1;
const PORT_BYTES = 2;

/** One TCP connection to a port in a pod's network namespace, through API server and kubelet. */
export async function openPort(cluster: Cluster, pod: string, port: number): Promise<Duplex> {
  const namespace = encodeURIComponent(cluster.namespace);
  const path = `/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(pod)}/portforward`;
  return new PortStream(await cluster.stream(path, new URLSearchParams({ ports: String(port) })), port);
}

/** The protocol has no half-close: the end of our side ends the connection. */
class PortStream extends Duplex {
  readonly #socket: WebSocket;
  readonly #port: number;
  readonly #announced = new Set<number>();

  constructor(socket: WebSocket, port: number) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    this.#port = port;
    socket.on("message", (data: Buffer) => this.#message(data));
    socket.once("close", () => this.push(null));
    socket.once("error", (error) => this.destroy(error));
    socket.resume();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.send(Buffer.concat([Buffer.from([DATA]), chunk]), (error) => done(error ?? null));
  }

  override _final(done: () => void): void {
    this.#socket.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }

  #message(data: Buffer): void {
    const stream = data[0] ?? DATA;
    const isFirst = !this.#announced.has(stream);
    this.#announced.add(stream);
    const bytes = data.subarray(isFirst ? 1 + PORT_BYTES : 1);
    if (bytes.length === 0) return;
    if (stream === ERROR) {
      this.destroy(new CliError(`port ${this.#port} in the pod: ${bytes.toString("utf8").trim()}`));
      return;
    }
    if (!this.push(bytes)) this.#socket.pause();
  }
}
