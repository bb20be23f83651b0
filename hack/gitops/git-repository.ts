import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { run } from "../lib/step.ts";

export const BRANCH = "main";
const NAME = "shop.git";
const AUTHOR = ["-c", "user.name=shop", "-c", "user.email=shop@example.test"];

/** A git repository of manifests, served on the loopback interface by git's own program for web servers. */
export class GitRepository implements AsyncDisposable {
  readonly #directory: string;
  readonly #server: Server;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#server = createServer((request, response) => {
      answer(directory, request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  static async open(): Promise<GitRepository> {
    const repository = new GitRepository(await mkdtemp(join(tmpdir(), "typevisor-repository-")));
    await mkdir(repository.#tree);
    await repository.#git("init", "--quiet", `--initial-branch=${BRANCH}`);
    repository.#server.listen(0, "127.0.0.1");
    await once(repository.#server, "listening");
    return repository;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${NAME}`;
  }

  /** Has the branch hold a file for each of these objects and nothing else; answers the commit. */
  async commit(message: string, objects: Readonly<Record<string, object>>): Promise<string> {
    const names = await readdir(this.#tree);
    for (const name of names.filter((name) => name.endsWith(".yaml"))) await rm(join(this.#tree, name));
    for (const [name, object] of Object.entries(objects)) {
      await writeFile(join(this.#tree, `${name}.yaml`), JSON.stringify(object, null, 2));
    }
    await this.#git("add", "--all");
    await this.#git(...AUTHOR, "commit", "--quiet", "--allow-empty", `--message=${message}`);
    return (await this.#git("rev-parse", "HEAD")).trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#directory, { recursive: true });
  }

  get #tree(): string {
    return join(this.#directory, NAME);
  }

  #git(...args: string[]): Promise<string> {
    return run(["git", "-C", this.#tree, ...args]);
  }
}

/** git-http-backend(1) by RFC 3875: what is asked in its environment, headers and body on its output. */
async function answer(root: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, search } = new URL(request.url ?? "/", "http://127.0.0.1");
  const header = (name: string) => String(request.headers[name] ?? "");
  const child = spawn("git", ["http-backend"], {
    env: {
      ...process.env,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_PROTOCOL: header("git-protocol"),
      REQUEST_METHOD: request.method ?? "GET",
      PATH_INFO: pathname,
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: header("content-type"),
      HTTP_CONTENT_ENCODING: header("content-encoding"),
    },
    stdio: ["pipe", "pipe", "ignore"],
  });
  // Who asks is told by what git answers, not by how much of the question it read.
  pipeline(request, child.stdin).catch(() => {});
  let head = Buffer.alloc(0);
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    if (response.headersSent) {
      response.write(chunk);
      continue;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) continue;
    writeHead(head.subarray(0, end).toString("latin1"), response);
    response.write(head.subarray(end + 4));
  }
  if (!response.headersSent) response.writeHead(500);
  response.end();
}

function writeHead(text: string, response: ServerResponse): void {
  let status = 200;
  for (const line of text.split("\r\n")) {
    const [, name = "", value = ""] = /^([^:]+):\s*(.*)$/.exec(line) ?? [];
    if (name.toLowerCase() === "status") status = Number.parseInt(value, 10);
    else response.setHeader(name, value);
  }
  response.writeHead(status);
}
