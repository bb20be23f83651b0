import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { formatTime } from "../clock.ts";
import type { ApiStatus } from "../errors.ts";
import type { KubernetesObject } from "../wire.ts";
import { AppliedFields, mergePatch } from "./patches.ts";

/** Any object, as the fake keeps it. */
export interface FakeObject extends KubernetesObject {
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  [field: string]: unknown;
}

/** A request as the hooks see it. */
export interface FakeRequest {
  readonly method: string;
  /** Path of the URL. */
  readonly path: string;
  /** e.g. "pods", "virtualmachines". */
  readonly plural: string;
  readonly namespace: string;
  /** "" for collections. */
  readonly name: string;
  readonly subresource: string;
  readonly query: URLSearchParams;
  readonly body: FakeObject | undefined;
  readonly isWatch: boolean;
  readonly isWrite: boolean;
}

/** What a hook can do to a request instead of letting it pass. */
export type Fault =
  | { readonly kind: "answer"; readonly status: ApiStatus & { readonly code: number } }
  /** Any other body, such as a log. */
  | { readonly kind: "text"; readonly text: string }
  /** The connection breaks before the request is carried out, or after. */
  | { readonly kind: "drop-before" }
  | { readonly kind: "drop-after" };

interface LoggedEvent {
  readonly revision: number;
  readonly collection: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: FakeObject;
}

interface Watcher {
  readonly response: ServerResponse;
  readonly collection: string;
  readonly request: FakeRequest;
}

class Refusal extends Error {
  readonly status: ApiStatus & { readonly code: number };

  constructor(code: number, reason: string, message: string) {
    super(message);
    this.status = { kind: "Status", status: "Failure", code, reason, message };
  }
}

/** Resources whose status is a subresource of its own, and whose spec changes raise the generation. */
const WITH_STATUS = new Set(["virtualmachines", "virtualmachineimages", "virtualmachinemigrations", "pods", "nodes"]);

/**
 * An API server in memory, over real HTTP on the loopback interface: resourceVersion conflicts, status subresource,
 * server-side apply of whole leaves, paged lists, watches with bookmarks, expiry, graceful deletion of pods, and
 * faults on demand. It knows no schemas.
 */
export class FakeApiServer implements AsyncDisposable {
  /** Sees each request first. */
  intercept: ((request: FakeRequest) => Fault | undefined) | undefined;
  /** Sees each new object; a status refuses it. */
  admit: ((plural: string, object: FakeObject) => (ApiStatus & { code: number }) | undefined) | undefined;
  /** Wall clock for timestamps. */
  now: () => number = () => Date.now();
  readonly requests: FakeRequest[] = [];

  readonly #server: Server;
  readonly #objects = new Map<string, Map<string, FakeObject>>();
  readonly #applied = new AppliedFields();
  readonly #log: LoggedEvent[] = [];
  readonly #watchers = new Set<Watcher>();
  #revision = 100;
  #oldestRevision = 0;

  private constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(): Promise<FakeApiServer> {
    const fake = new FakeApiServer();
    fake.#server.listen(0, "127.0.0.1");
    await once(fake.#server, "listening");
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Hands requests for an upgrade (exec, port forwarding) to a server on this machine; undefined answers them as others. */
  upgradesGoTo(port: number | undefined): void {
    this.#server.removeAllListeners("upgrade");
    if (port === undefined) return;
    this.#server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      const upstream = connect(port, "127.0.0.1", () => {
        const headers = request.rawHeaders.map((text, index) => (index % 2 === 0 ? `${text}: ` : `${text}\r\n`));
        upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers.join("")}\r\n`);
        upstream.write(head);
        socket.pipe(upstream).pipe(socket);
      });
      socket.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
      upstream.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    });
  }

  get watcherCount(): number {
    return this.#watchers.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.breakWatches();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** One object as stored. */
  read<T extends KubernetesObject = FakeObject>(plural: string, namespace: string, name: string): T | undefined {
    return this.#collection(plural).get(`${namespace}/${name}`) as T | undefined;
  }

  /** All objects of a resource. */
  all<T extends KubernetesObject = FakeObject>(plural: string): T[] {
    return [...this.#collection(plural).values()] as unknown as T[];
  }

  /** Writes an object as somebody else, subresources and all. */
  write(plural: string, object: KubernetesObject): FakeObject {
    const copy = structuredClone(object) as FakeObject;
    const namespace = copy.metadata?.namespace ?? "";
    const name = copy.metadata?.name ?? "";
    const existing = this.read(plural, namespace, name);
    if (existing === undefined) {
      return this.#insert(plural, copy);
    }
    copy.metadata = { ...existing.metadata, ...copy.metadata };
    return this.#store(plural, copy, existing);
  }

  /** Changes a stored object as somebody else. */
  edit<T extends KubernetesObject = FakeObject>(
    plural: string,
    namespace: string,
    name: string,
    change: (object: T) => void,
  ): void {
    const existing = this.read(plural, namespace, name);
    if (existing === undefined) {
      throw new Error(`the fake has no ${plural} ${namespace}/${name}`);
    }
    const copy = structuredClone(existing);
    change(copy as unknown as T);
    this.#store(plural, copy, existing);
  }

  /** Takes an object away at once, whatever its grace period. */
  erase(plural: string, namespace: string, name: string): void {
    const existing = this.read(plural, namespace, name);
    if (existing !== undefined) {
      this.#remove(plural, existing);
    }
  }

  /** Breaks each watch's connection. */
  breakWatches(): void {
    for (const watcher of this.#watchers) {
      watcher.response.destroy();
    }
    this.#watchers.clear();
  }

  /** Tells each watch in its own stream that it is too old. */
  expireWatches(): void {
    for (const watcher of this.#watchers) {
      const status = new Refusal(410, "Expired", "too old resource version").status;
      watcher.response.end(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
    }
    this.#watchers.clear();
  }

  /** Forgets history: a watch from before now is answered with 410. */
  compact(): void {
    this.#oldestRevision = this.#revision;
    this.#log.length = 0;
  }

  /** Sends each watch a bookmark. */
  bookmark(): void {
    this.#revision += 1;
    for (const watcher of this.#watchers) {
      const object = { metadata: { resourceVersion: String(this.#revision) } };
      watcher.response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
    }
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const request = await parseRequest(incoming);
      this.requests.push(request);
      const fault = this.intercept?.(request);
      if (fault?.kind === "drop-before") {
        response.destroy();
        return;
      }
      if (fault?.kind === "answer") {
        answer(response, fault.status.code, fault.status);
        return;
      }
      if (fault?.kind === "text") {
        response.writeHead(200, { "Content-Type": "text/plain" }).end(fault.text);
        return;
      }
      if (request.isWatch) {
        this.#watch(request, response);
        return;
      }
      const [code, body] = this.#route(request);
      if (fault?.kind === "drop-after") {
        response.destroy();
        return;
      }
      answer(response, code, body);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, "InternalError", String(error));
      answer(response, refusal.status.code, refusal.status);
    }
  }

  #route(request: FakeRequest): [number, unknown] {
    switch (request.method) {
      case "GET":
        return [200, request.name === "" ? this.#list(request) : this.#existing(request)];
      case "POST":
        return [201, this.#create(request)];
      case "PUT":
        return [200, this.#update(request)];
      case "PATCH":
        return this.#patch(request);
      case "DELETE":
        return [200, this.#delete(request)];
      default:
        throw new Refusal(405, "MethodNotAllowed", request.method);
    }
  }

  #list(request: FakeRequest): unknown {
    const limit = Number(request.query.get("limit") ?? "0");
    const [revision = String(this.#revision), from = "0"] = request.query.get("continue")?.split(":") ?? [];
    if (Number(revision) < this.#oldestRevision) {
      throw new Refusal(410, "Expired", "the continue token is too old");
    }
    const found = this.all(request.plural).filter((object) => matches(request, object));
    const end = limit === 0 ? found.length : Number(from) + limit;
    const next = end < found.length ? `${revision}:${end}` : undefined;
    return { metadata: { resourceVersion: revision, continue: next }, items: found.slice(Number(from), end) };
  }

  #watch(request: FakeRequest, response: ServerResponse): void {
    const since = Number(request.query.get("resourceVersion") ?? "0");
    if (since < this.#oldestRevision) {
      throw new Refusal(410, "Expired", "too old resource version");
    }
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
    const watcher = { response, collection: request.plural, request };
    for (const event of this.#log) {
      if (event.revision > since) {
        send(watcher, event);
      }
    }
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
  }

  #create(request: FakeRequest): FakeObject {
    const object = bodyOf(request);
    const name = object.metadata?.name ?? "";
    if (this.read(request.plural, request.namespace, name) !== undefined) {
      throw new Refusal(409, "AlreadyExists", `${request.plural} "${name}" already exists`);
    }
    const refused = this.admit?.(request.plural, object);
    if (refused !== undefined) {
      throw Object.assign(new Refusal(refused.code, refused.reason ?? "", refused.message ?? ""), { status: refused });
    }
    return this.#insert(request.plural, { ...object, metadata: { ...object.metadata, namespace: request.namespace } });
  }

  #update(request: FakeRequest): FakeObject {
    const existing = this.#existing(request);
    const object = bodyOf(request);
    const expected = object.metadata?.resourceVersion;
    if (expected !== undefined && expected !== existing.metadata?.resourceVersion) {
      throw new Refusal(409, "Conflict", "the object has been modified");
    }
    const metadata = { ...object.metadata, uid: existing.metadata?.uid, namespace: request.namespace } as never;
    return this.#store(request.plural, this.#separated(request, { ...object, metadata }, existing), existing);
  }

  #patch(request: FakeRequest): [number, FakeObject] {
    const patch = bodyOf(request);
    const { plural, namespace, name } = request;
    const applies = request.query.get("force") !== null;
    const existing = this.read(plural, namespace, name);
    if (existing === undefined) {
      if (!applies || request.subresource !== "") {
        throw new Refusal(404, "NotFound", `${plural} "${name}" not found`);
      }
      const manager = `${request.query.get("fieldManager")}`;
      this.#applied.remember(`${plural}/${namespace}/${name}/${manager}/`, patch);
      return [201, this.#create({ ...request, body: patch })];
    }
    const { uid, resourceVersion } = patch.metadata ?? {};
    if (uid !== undefined && uid !== existing.metadata?.uid) {
      throw new Refusal(409, "Conflict", "the UID in the precondition does not match");
    }
    if (resourceVersion !== undefined && resourceVersion !== existing.metadata?.resourceVersion) {
      throw new Refusal(409, "Conflict", "the object has been modified");
    }
    const key = `${plural}/${namespace}/${name}/${request.query.get("fieldManager")}/${request.subresource}`;
    const changed = applies ? this.#applied.apply(key, existing, patch) : mergePatch(existing, patch);
    return [200, this.#store(plural, this.#separated(request, changed as FakeObject, existing), existing)];
  }

  #delete(request: FakeRequest): unknown {
    const existing = this.#existing(request);
    const options = (request.body ?? {}) as { preconditions?: { uid?: string }; gracePeriodSeconds?: number };
    if (options.preconditions?.uid !== undefined && options.preconditions.uid !== existing.metadata?.uid) {
      throw new Refusal(409, "Conflict", "the UID in the precondition does not match");
    }
    const phase = existing.status?.["phase"];
    const running =
      request.plural === "pods" && existing.spec?.["nodeName"] && phase !== "Failed" && phase !== "Succeeded";
    const held = (existing.metadata?.finalizers ?? []).length > 0;
    const graceSeconds = options.gracePeriodSeconds ?? Number(existing.spec?.["terminationGracePeriodSeconds"] ?? 30);
    if ((running && graceSeconds > 0) || held) {
      if (existing.metadata?.deletionTimestamp !== undefined) {
        return existing;
      }
      const deletionTimestamp = formatTime(this.now() + graceSeconds * 1000);
      const metadata = { ...existing.metadata, deletionTimestamp, deletionGracePeriodSeconds: graceSeconds };
      return this.#store(request.plural, { ...existing, metadata }, existing);
    }
    this.#remove(request.plural, existing);
    return { kind: "Status", status: "Success" };
  }

  /** Keeps what the request's subresource may not change. */
  #separated(request: FakeRequest, changed: FakeObject, existing: FakeObject): FakeObject {
    if (!WITH_STATUS.has(request.plural)) {
      return changed;
    }
    if (request.subresource === "status") {
      return { ...existing, ...(changed.status === undefined ? {} : { status: changed.status }) };
    }
    const { status: _ignored, ...rest } = changed;
    return { ...rest, ...(existing.status === undefined ? {} : { status: existing.status }) };
  }

  #existing(request: FakeRequest): FakeObject {
    const object = this.read(request.plural, request.namespace, request.name);
    if (object === undefined) {
      throw new Refusal(404, "NotFound", `${request.plural} "${request.name}" not found`);
    }
    return object;
  }

  #insert(plural: string, object: FakeObject): FakeObject {
    const metadata = {
      uid: randomUUID(),
      creationTimestamp: formatTime(this.now()),
      generation: 1,
      ...object.metadata,
    };
    return this.#commit("ADDED", plural, { ...object, metadata });
  }

  #store(plural: string, object: FakeObject, existing: FakeObject): FakeObject {
    if (sameContent(object, existing)) {
      return existing;
    }
    const specChanged = JSON.stringify(object.spec) !== JSON.stringify(existing.spec);
    const generation = (existing.metadata?.generation ?? 1) + (WITH_STATUS.has(plural) && specChanged ? 1 : 0);
    const changed = { ...object, metadata: { ...object.metadata, generation } };
    if (changed.metadata.deletionTimestamp !== undefined && plural !== "pods" && !changed.metadata.finalizers?.length) {
      return this.#remove(plural, changed);
    }
    return this.#commit("MODIFIED", plural, changed);
  }

  #remove(plural: string, object: FakeObject): FakeObject {
    return this.#commit("DELETED", plural, object);
  }

  #commit(type: LoggedEvent["type"], plural: string, object: FakeObject): FakeObject {
    this.#revision += 1;
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#revision) } };
    const key = `${stored.metadata.namespace ?? ""}/${stored.metadata.name}`;
    if (type === "DELETED") {
      this.#collection(plural).delete(key);
      this.#applied.forget(`${plural}/${key}/`);
    } else {
      this.#collection(plural).set(key, stored);
    }
    const event = { revision: this.#revision, collection: plural, type, object: stored };
    this.#log.push(event);
    for (const watcher of this.#watchers) {
      send(watcher, event);
    }
    return stored;
  }

  #collection(plural: string): Map<string, FakeObject> {
    const existing = this.#objects.get(plural) ?? new Map<string, FakeObject>();
    this.#objects.set(plural, existing);
    return existing;
  }
}

function bodyOf(request: FakeRequest): FakeObject {
  if (request.body === undefined) {
    throw new Refusal(400, "BadRequest", "a body is required");
  }
  return request.body;
}

function sameContent(a: FakeObject, b: FakeObject): boolean {
  const strip = (object: FakeObject) =>
    JSON.stringify({ ...object, metadata: { ...object.metadata, resourceVersion: "", generation: 0 } });
  return strip(a) === strip(b);
}

function send(watcher: Watcher, event: LoggedEvent): void {
  if (event.collection === watcher.collection && matches(watcher.request, event.object)) {
    watcher.response.write(`${JSON.stringify({ type: event.type, object: event.object })}\n`);
  }
}

function answer(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

function matches(request: FakeRequest, object: FakeObject): boolean {
  if (request.namespace !== "" && object.metadata?.namespace !== request.namespace) {
    return false;
  }
  const labels = object.metadata?.labels ?? {};
  const labelsMatch = split(request.query.get("labelSelector")).every(([key, value]) =>
    value === undefined ? key in labels : labels[key] === value,
  );
  const fieldsMatch = split(request.query.get("fieldSelector")).every(
    ([key, value]) => key !== "metadata.name" || object.metadata?.name === value,
  );
  return labelsMatch && fieldsMatch;
}

function split(selector: string | null): [string, string | undefined][] {
  return (selector ?? "")
    .split(",")
    .filter((term) => term !== "")
    .map((term) => {
      const [key = "", value] = term.split("=");
      return [key, value];
    });
}

async function parseRequest(incoming: IncomingMessage): Promise<FakeRequest> {
  const url = new URL(incoming.url ?? "/", "http://fake");
  const match =
    /^\/(?:api|apis\/[^/]+)\/v[^/]+(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?(?:\/(?<subresource>[^/]+))?$/.exec(
      url.pathname,
    );
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) {
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  const method = incoming.method ?? "GET";
  return {
    method,
    path: url.pathname,
    plural: match?.groups?.["plural"] ?? "",
    namespace: match?.groups?.["namespace"] ?? "",
    name: match?.groups?.["name"] ?? "",
    subresource: match?.groups?.["subresource"] ?? "",
    query: url.searchParams,
    body: text === "" ? undefined : (JSON.parse(text) as FakeObject),
    isWatch: url.searchParams.get("watch") === "true",
    isWrite: method !== "GET",
  };
}
