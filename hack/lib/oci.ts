import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { pack as newPack } from "tar-stream";
import { type LayerCompression, type OciLayer, type WrittenLayer, writeLayer } from "./oci-layer.ts";

export type { LayerCompression, OciFile, OciLayer } from "./oci-layer.ts";

/** A container image as its Containerfile would say it. */
export interface OciImage {
  /** Docker-style: `typevisor/launcher:dev`. Completed to `docker.io/...` and `:latest`, as Kubernetes does. */
  name: string;
  layers: readonly OciLayer[];
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** `uid[:gid]`; Pod Security `restricted` can only prove non-root of a number. */
  user?: string;
  workdir?: string;
  /** On the manifest and its descriptor. */
  annotations?: Readonly<Record<string, string>>;
  /** In the image configuration. */
  labels?: Readonly<Record<string, string>>;
  /** Of the layers; `none` imports fastest, `zstd` suits disk images full of zeros. Default `none`. */
  compression?: LayerCompression;
}

export interface WrittenImage {
  /** The completed name under which the container runtime will know the image. */
  name: string;
  /** Digest of the manifest. */
  digest: string;
  /** Size of the archive. */
  sizeBytes: number;
}

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";

/**
 * Writes `image` as an OCI archive (image-spec v1.1, image-layout) to `outFile`, replacing it atomically.
 * The same input gives the same bytes, and so the same digest.
 */
export async function writeOciArchive(image: OciImage, outFile: string): Promise<WrittenImage> {
  const name = completeImageName(image.name);
  await mkdir(dirname(outFile), { recursive: true });
  const scratch = join(dirname(outFile), `.oci-${randomUUID()}`);
  await mkdir(scratch);
  try {
    const layers: WrittenLayer[] = [];
    for (const [index, layer] of image.layers.entries()) {
      layers.push(await writeLayer(layer, join(scratch, `layer${index}`), image.compression ?? "none"));
    }
    const config = jsonBlob(configType, imageConfig(image, layers));
    const manifest = jsonBlob(manifestType, {
      schemaVersion: 2,
      mediaType: manifestType,
      config: config.descriptor,
      layers: layers.map(({ mediaType, digest, sizeBytes }) => ({ mediaType, digest, size: sizeBytes })),
      ...(image.annotations ? { annotations: image.annotations } : {}),
    });
    await writeArchive(join(scratch, "archive"), { name, image, manifest, config, layers, scratch });
    await rename(join(scratch, "archive"), outFile);
    return { name, digest: manifest.descriptor.digest, sizeBytes: (await stat(outFile)).size };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** `a/b` -> `docker.io/a/b:latest`, by the rules of github.com/distribution/reference. */
export function completeImageName(name: string): string {
  if (!/^[a-z0-9][a-z0-9._:/@-]*$/i.test(name))
    throw new Error(`'${name}' is not an image name such as example/app:1.0`);
  const [first = "", ...rest] = name.split("/");
  const hasHost = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const path = hasHost ? name : `docker.io/${rest.length > 0 ? name : `library/${name}`}`;
  const last = path.slice(path.lastIndexOf("/") + 1);
  return last.includes(":") || last.includes("@") ? path : `${path}:latest`;
}

interface JsonBlob {
  content: string;
  descriptor: { mediaType: string; digest: string; size: number };
}

function jsonBlob(mediaType: string, value: unknown): JsonBlob {
  const content = JSON.stringify(value);
  const digest = `sha256:${createHash("sha256").update(content).digest("hex")}`;
  return { content, descriptor: { mediaType, digest, size: Buffer.byteLength(content) } };
}

function imageConfig(image: OciImage, layers: readonly WrittenLayer[]): unknown {
  const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...image.env };
  return {
    created: "1970-01-01T00:00:00Z",
    architecture: "amd64",
    os: "linux",
    config: {
      Env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      ...(image.entrypoint ? { Entrypoint: image.entrypoint } : {}),
      ...(image.cmd ? { Cmd: image.cmd } : {}),
      ...(image.user ? { User: image.user } : {}),
      ...(image.workdir ? { WorkingDir: image.workdir } : {}),
      ...(image.labels ? { Labels: image.labels } : {}),
    },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
  };
}

interface ArchiveParts {
  name: string;
  image: OciImage;
  manifest: JsonBlob;
  config: JsonBlob;
  layers: readonly WrittenLayer[];
  scratch: string;
}

async function writeArchive(outFile: string, parts: ArchiveParts): Promise<void> {
  const { name, image, manifest, config, layers, scratch } = parts;
  const pack = newPack();
  const written = pipeline(pack, createWriteStream(outFile));
  const add = (path: string, content: string) => pack.entry({ name: path, mode: 0o644, mtime: new Date(0) }, content);
  const annotations = {
    ...image.annotations,
    // containerd names the image after the first, skopeo and docker after the second.
    "io.containerd.image.name": name,
    "org.opencontainers.image.ref.name": name.slice(name.lastIndexOf(":") + 1),
  };
  add("oci-layout", JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  add("index.json", JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest.descriptor, annotations }] }));
  for (const blob of [manifest, config]) add(blobPath(blob.descriptor.digest), blob.content);
  const done = new Set<string>();
  for (const [index, layer] of layers.entries()) {
    if (done.has(layer.digest)) continue;
    done.add(layer.digest);
    const sink = pack.entry({ name: blobPath(layer.digest), mode: 0o644, mtime: new Date(0), size: layer.sizeBytes });
    await pipeline(createReadStream(join(scratch, `layer${index}`), { highWaterMark: 1 << 20 }), sink);
  }
  pack.finalize();
  await written;
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}
