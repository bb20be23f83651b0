import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../lib/step.ts";

/** `status.artifact` of Flux's ExternalArtifact: https://fluxcd.io/flux/components/source/externalartifacts/ */
export interface Artifact {
  readonly url: string;
  readonly path: string;
  readonly revision: string;
  readonly digest: string;
  readonly size: number;
  readonly lastUpdateTime: string;
}

/** Manifests that a tool is to apply, in revisions, served as archives on the loopback interface. */
export class Repository implements AsyncDisposable {
  readonly #directory: string;
  readonly #server: Server;
  readonly #archives = new Map<string, Buffer>();

  private constructor(directory: string) {
    this.#directory = directory;
    this.#server = createServer(({ url = "" }, response) => {
      const archive = this.#archives.get(url);
      response.writeHead(archive === undefined ? 404 : 200).end(archive);
    });
  }

  static async open(): Promise<Repository> {
    const repository = new Repository(await mkdtemp(join(tmpdir(), "typevisor-repository-")));
    repository.#server.listen(0, "127.0.0.1");
    await once(repository.#server, "listening");
    return repository;
  }

  /** A revision with a file for each of these objects, and what is to be told of it. */
  async publish(revision: string, objects: Readonly<Record<string, object>>): Promise<Artifact> {
    const tree = await mkdtemp(join(this.#directory, "tree-"));
    for (const [name, object] of Object.entries(objects)) {
      await writeFile(join(tree, `${name}.yaml`), JSON.stringify(object));
    }
    const file = `${tree}.tar.gz`;
    await run(["tar", "--create", "--gzip", `--file=${file}`, `--directory=${tree}`, "."]);
    const archive = await readFile(file);
    const path = `/${revision}.tar.gz`;
    this.#archives.set(path, archive);
    const { port } = this.#server.address() as AddressInfo;
    return {
      url: `http://127.0.0.1:${port}${path}`,
      path: path.slice(1),
      revision,
      digest: `sha256:${createHash("sha256").update(archive).digest("hex")}`,
      size: archive.length,
      lastUpdateTime: `${new Date().toISOString().slice(0, 19)}Z`,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#directory, { recursive: true });
  }
}
