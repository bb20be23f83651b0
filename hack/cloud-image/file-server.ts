import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { addresses, type Layout } from "../dev-cluster/layout.ts";

/** The first connection breaks after so many bytes. */
export const BREAKS_AFTER_BYTES = 64 * 2 ** 20;

/** Serves one file with ranges; prints its port. Arguments: address, file, bytes after which it breaks once. */
const SERVER = `
const { createServer } = require("node:http");
const { createReadStream, statSync } = require("node:fs");
const [address, file, breaksAfter] = process.argv.slice(1);
const { size } = statSync(file);
let isFirst = true;
const server = createServer((request, response) => {
  const start = Number(/^bytes=(\\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const range = start > 0 ? { "Content-Range": "bytes " + start + "-" + (size - 1) + "/" + size } : {};
  response.writeHead(start > 0 ? 206 : 200, { ETag: '"1"', "Content-Length": size - start, ...range });
  const end = isFirst ? Number(breaksAfter) - 1 : size - 1;
  const isCut = isFirst;
  isFirst = false;
  console.error(request.method, request.headers.range ?? "all");
  const stream = createReadStream(file, { start, end });
  stream.on("end", () => isCut && response.destroy());
  stream.pipe(response, { end: !isCut });
});
server.listen(0, address, () => console.log(server.address().port));
`;

/** A web server beside the control plane of a development cluster, with one file for its pods. */
export class FileServer implements Disposable {
  readonly url: string;
  readonly #child: ChildProcess;
  #asked = "";

  private constructor(child: ChildProcess, url: string) {
    this.url = url;
    this.#child = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#asked += text;
    });
  }

  static async start({ netns }: Layout, file: string): Promise<FileServer> {
    const node = [process.execPath, "-e", SERVER, addresses.controlPlane, file, String(BREAKS_AFTER_BYTES)];
    const child = spawn("ip", ["netns", "exec", netns, ...node], { stdio: ["ignore", "pipe", "pipe"] });
    const [port] = (await once(child.stdout, "data")) as [Buffer];
    return new FileServer(child, `http://${addresses.controlPlane}:${Number(port.toString())}/disk.qcow2`);
  }

  /** What was asked for: a line for each request, with its range. */
  get requests(): readonly string[] {
    return this.#asked.trimEnd().split("\n");
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
