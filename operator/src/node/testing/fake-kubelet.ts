import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Client,
  type ClientReadableStream,
  credentials,
  type handleUnaryCall,
  Server,
  ServerCredentials,
} from "@grpc/grpc-js";
import {
  type AllocateResponse,
  type ListAndWatchResponse,
  loadDevicePluginProtocol,
  type RegisterRequest,
  serviceOf,
} from "../device-plugin/protocol.ts";

type Unary = (request: object, done: (error: Error | null, response: never) => void) => void;
type PluginClient = Client & {
  ListAndWatch(request: object): ClientReadableStream<ListAndWatchResponse>;
  readonly Allocate: Unary;
  readonly GetDevicePluginOptions: Unary;
};

/** The kubelet's side of the device plugin protocol in a directory of its own. */
export class FakeKubelet implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "kubelet-"));
  readonly registrations: RegisterRequest[] = [];
  /** What the plugin said last. */
  devices: ListAndWatchResponse["devices"] | undefined;
  /** Refuses registrations with this. */
  refusal: Error | undefined;
  readonly #protocol = loadDevicePluginProtocol();
  #server: Server | undefined;
  #client: PluginClient | undefined;
  #stream: ClientReadableStream<ListAndWatchResponse> | undefined;

  /** As a kubelet does when it starts: all sockets go, then its own comes. */
  async start(): Promise<this> {
    for (const name of readdirSync(this.directory)) rmSync(join(this.directory, name), { recursive: true });
    const Register: handleUnaryCall<RegisterRequest, object> = (call, answer) => {
      if (this.refusal !== undefined) return answer(this.refusal);
      this.registrations.push(call.request);
      answer(null, {});
      this.#watch(call.request.endpoint);
    };
    this.#server = new Server();
    this.#server.addService(serviceOf(this.#protocol.Registration), { Register });
    await new Promise<void>((resolve, reject) => {
      this.#server?.bindAsync(`unix://${this.directory}/kubelet.sock`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    return this;
  }

  async stop(): Promise<void> {
    this.dropPlugin();
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  /** Stops to watch, as a kubelet does whose connection broke. */
  dropPlugin(): void {
    this.#stream?.cancel();
    this.#client?.close();
    this.#client = undefined;
    this.devices = undefined;
  }

  allocate(...containers: string[][]): Promise<AllocateResponse> {
    return this.#call("Allocate", { container_requests: containers.map((ids) => ({ devices_ids: ids })) });
  }

  pluginOptions(): Promise<object> {
    return this.#call("GetDevicePluginOptions", {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #watch(endpoint: string): void {
    this.#client?.close();
    const client = new this.#protocol.DevicePlugin(
      `unix://${this.directory}/${endpoint}`,
      credentials.createInsecure(),
    ) as unknown as PluginClient;
    this.#client = client;
    const stream = client.ListAndWatch({});
    this.#stream = stream;
    stream.on("data", ({ devices }: ListAndWatchResponse) => {
      if (this.#client === client) this.devices = devices;
    });
    stream.on("error", () => {});
  }

  #call<Response>(method: "Allocate" | "GetDevicePluginOptions", request: object): Promise<Response> {
    const client = this.#client;
    if (client === undefined) throw new Error("no plugin has registered");
    return new Promise((resolve, reject) => {
      client[method](request, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  }
}
