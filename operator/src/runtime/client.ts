import http from "node:http";
import https from "node:https";
import { createInterface } from "node:readline";
import type { ClientMetrics } from "./client-metrics.ts";
import type { Connection } from "./connection.ts";
import { ApiError, type ApiStatus, TransportError } from "./errors.ts";
import type { RateLimiter } from "./rate-limit.ts";
import { apiVersionOf, type KubernetesObject, type ObjectList, type Resource } from "./wire.ts";

/** Which objects a list or watch covers. */
export interface Selection {
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

export interface ListOptions extends Selection {
  readonly limit?: number;
  readonly continue?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface WatchOptions extends Selection {
  readonly resourceVersion: string;
  /** The server ends the watch after this long. */
  readonly timeoutSeconds: number;
  /** Told of every sign of life: the headers, and each chunk. */
  readonly onActivity?: () => void;
  readonly signal: AbortSignal;
}

/** One line of a watch. */
export type WatchEvent<T> =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK"; readonly object: T }
  | { readonly type: "ERROR"; readonly object: ApiStatus };

export interface DeleteOptions {
  /** Only the object with this UID is deleted; another one of the name gives a conflict. */
  readonly uid?: string;
  readonly resourceVersion?: string;
  /** 0 forces: the object is gone at once, whether or not its node knows. */
  readonly gracePeriodSeconds?: number;
}

export interface ApplyOptions {
  /** One per controller: it owns the fields that it applies. */
  readonly fieldManager: string;
  readonly subresource?: "status";
}

export interface OpenOptions {
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

interface Call {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** Verb in metrics; the method when absent. */
  readonly verb?: string;
}

export interface ClientOptions {
  readonly limiter?: RateLimiter;
  readonly metrics?: ClientMetrics;
  /** Deadline of each call but a watch. */
  readonly timeoutMs?: number;
  readonly userAgent?: string;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/** Typed calls to the API server: JSON in, JSON out; failures are ApiError or TransportError. */
export class Client {
  readonly #connection: Connection;
  readonly #options: ClientOptions;

  constructor(connection: Connection, options: ClientOptions = {}) {
    this.#connection = connection;
    this.#options = options;
  }

  /** One object. */
  get<T extends KubernetesObject>(resource: Resource, namespace: string, name: string): Promise<T> {
    return this.#json({ method: "GET", path: pathOf(resource, namespace, name) });
  }

  /** One object; undefined where there is none. */
  async find<T extends KubernetesObject>(resource: Resource, namespace: string, name: string): Promise<T | undefined> {
    try {
      return await this.get<T>(resource, namespace, name);
    } catch (error) {
      if (error instanceof ApiError && error.isNotFound) return undefined;
      throw error;
    }
  }

  /** What the API server publishes of a group's kinds, as OpenAPI 3. Whoever is authenticated may read it. */
  openApi<T>(groupVersion: string): Promise<T> {
    return this.#json({ method: "GET", path: `/openapi/v3/apis/${groupVersion}` });
  }

  /** One page of a list. */
  list<T extends KubernetesObject>(resource: Resource, options: ListOptions): Promise<ObjectList<T>> {
    const { limit, signal } = options;
    return this.#json({
      method: "GET",
      path: pathOf(resource, options.namespace),
      query: { ...selectors(options), limit: limit?.toString(), continue: options.continue },
      signal,
      verb: "LIST",
    });
  }

  /** Creates; `fieldManager` names who. */
  create<T extends KubernetesObject>(resource: Resource, object: T, fieldManager: string): Promise<T> {
    const body = { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object };
    const path = pathOf(resource, object.metadata?.namespace);
    return this.#json({ method: "POST", path, query: { fieldManager }, body });
  }

  /** Replaces the whole object; its resourceVersion, when given, must still be the current one. */
  update<T extends KubernetesObject>(resource: Resource, object: T, fieldManager: string): Promise<T> {
    const body = { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object };
    const path = pathOf(resource, object.metadata?.namespace, object.metadata?.name);
    return this.#json({ method: "PUT", path, query: { fieldManager }, body });
  }

  /**
   * Server-side apply, forced: the fields of `object` become ours, and those that we applied before and left out now
   * go away. With `metadata.uid` only that very object is touched.
   */
  apply<T extends KubernetesObject>(resource: Resource, object: T, options: ApplyOptions): Promise<T> {
    const path = pathOf(resource, object.metadata?.namespace, object.metadata?.name);
    return this.#json({
      method: "PATCH",
      path: options.subresource === undefined ? path : `${path}/${options.subresource}`,
      query: { fieldManager: options.fieldManager, force: "true" },
      body: { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object },
      contentType: "application/apply-patch+yaml",
      verb: "APPLY",
    });
  }

  /** JSON merge patch (RFC 7386). `metadata.uid` and `metadata.resourceVersion` in it are preconditions. */
  mergePatch<T extends KubernetesObject>(
    resource: Resource,
    target: { readonly namespace: string; readonly name: string },
    patch: KubernetesObject,
    fieldManager: string,
  ): Promise<T> {
    return this.#json({
      method: "PATCH",
      path: pathOf(resource, target.namespace, target.name),
      query: { fieldManager },
      body: patch,
      contentType: "application/merge-patch+json",
    });
  }

  /** Deletes; resolves to the object while it is still terminating, or to a Status. */
  delete<T extends KubernetesObject>(
    resource: Resource,
    target: { readonly namespace: string; readonly name: string },
    options: DeleteOptions = {},
  ): Promise<T | ApiStatus> {
    const { uid, resourceVersion, gracePeriodSeconds } = options;
    const preconditions = { uid, resourceVersion };
    return this.#json({
      method: "DELETE",
      path: pathOf(resource, target.namespace, target.name),
      body: { apiVersion: "v1", kind: "DeleteOptions", preconditions, gracePeriodSeconds },
    });
  }

  /** Events from `resourceVersion` on, bookmarks included; ends when the server ends it, throws when it breaks. */
  async *watch<T extends KubernetesObject>(resource: Resource, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    const call: Call = {
      method: "GET",
      path: pathOf(resource, options.namespace),
      query: {
        ...selectors(options),
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion: options.resourceVersion,
        timeoutSeconds: options.timeoutSeconds.toString(),
      },
      signal: options.signal,
      verb: "WATCH",
    };
    const request = nameOf(call);
    const response = await this.#send(call);
    if (response.statusCode !== 200) {
      throw new ApiError(response.statusCode ?? 0, parseStatus(await readAll(response, request)), request);
    }
    options.onActivity?.();
    response.on("data", () => options.onActivity?.());
    try {
      for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })) {
        if (line !== "") {
          yield parseEvent<T>(line, request);
        }
      }
      if (!response.complete) {
        throw new Error("the connection broke off");
      }
    } catch (error) {
      throw error instanceof TransportError ? error : new TransportError(request, error);
    } finally {
      response.destroy();
    }
  }

  /**
   * Any other GET, such as a log or what a pod answers through the API server's proxy. It has no deadline but `signal`;
   * the caller reads the stream to its end or destroys it.
   */
  async open(path: string, options: OpenOptions = {}): Promise<http.IncomingMessage> {
    const call: Call = { method: "GET", path, query: options.query ?? {}, accept: "*/*", signal: options.signal };
    const response = await this.#send(call);
    if (response.statusCode !== 200) {
      const request = nameOf(call);
      throw new ApiError(response.statusCode ?? 0, parseStatus(await readAll(response, request)), request);
    }
    return response;
  }

  async #json<T>(call: Call): Promise<T> {
    await this.#options.limiter?.take(call.signal);
    const deadline = AbortSignal.timeout(this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const signal = call.signal === undefined ? deadline : AbortSignal.any([call.signal, deadline]);
    const request = nameOf(call);
    const response = await this.#send({ ...call, signal });
    const body = await readAll(response, request);
    const statusCode = response.statusCode ?? 0;
    if (statusCode < 200 || statusCode > 299) {
      throw new ApiError(statusCode, parseStatus(body), request);
    }
    try {
      return JSON.parse(body) as T;
    } catch (error) {
      throw new TransportError(request, error);
    }
  }

  async #send(call: Call): Promise<http.IncomingMessage> {
    const { server } = this.#connection;
    const url = new URL(server + call.path);
    for (const [key, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) {
        url.searchParams.set(key, value);
      }
    }
    const startedAt = performance.now();
    const verb = call.verb ?? call.method;
    try {
      const response = await this.#exchange(url, call);
      this.#options.metrics?.observe(verb, url.host, response.statusCode ?? 0, (performance.now() - startedAt) / 1000);
      return response;
    } catch (error) {
      this.#options.metrics?.observe(verb, url.host, "<error>", (performance.now() - startedAt) / 1000);
      throw new TransportError(nameOf(call), error);
    }
  }

  async #exchange(url: URL, call: Call): Promise<http.IncomingMessage> {
    const { headers, agent } = await this.#connection.prepare();
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const request = (url.protocol === "http:" ? http : https).request(
      url,
      {
        method: call.method,
        agent,
        ...(call.signal === undefined ? {} : { signal: call.signal }),
        headers: {
          ...headers,
          Accept: call.accept ?? "application/json",
          "User-Agent": this.#options.userAgent ?? "typevisor",
          ...(body === undefined
            ? {}
            : { "Content-Type": call.contentType ?? "application/json", "Content-Length": body.length }),
        },
      },
      resolve,
    );
    request.on("error", reject);
    request.end(body);
    return promise;
  }
}

function pathOf(resource: Resource, namespace?: string, name?: string): string {
  const root = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const inNamespace = resource.namespaced && namespace !== undefined && namespace !== "";
  const scope = inNamespace ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${resource.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

function selectors(selection: Selection): Record<string, string | undefined> {
  return { labelSelector: selection.labelSelector, fieldSelector: selection.fieldSelector };
}

function nameOf(call: Call): string {
  return `${call.verb ?? call.method} ${call.path}`;
}

async function readAll(response: http.IncomingMessage, request: string): Promise<string> {
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks).toString("utf8");
  } catch (error) {
    throw new TransportError(request, error);
  }
}

/** Proxies and overloaded servers answer with other things than a Status. */
function parseStatus(body: string): ApiStatus {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null) {
      return parsed as ApiStatus;
    }
  } catch {
    // Not JSON: the text itself is the message.
  }
  return { message: body.slice(0, 500) };
}

function parseEvent<T>(line: string, request: string): WatchEvent<T> {
  try {
    return JSON.parse(line) as WatchEvent<T>;
  } catch (error) {
    throw new TransportError(request, error);
  }
}
