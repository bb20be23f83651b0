import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { completeImageName, type OciImage, writeOciArchive } from "./oci.ts";

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "oci-test-"));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

/** Unpacks with the system's tar, so that our writer is not judged by its own library. */
function untar(file: string): string {
  const into = mkdtempSync(join(work, "untar-"));
  execFileSync("tar", ["-xf", file, "-C", into]);
  return into;
}

function list(file: string): string[] {
  const text = execFileSync("tar", ["--numeric-owner", "--utc", "-tvf", file], { encoding: "utf8" });
  return text
    .trim()
    .split("\n")
    .map((line) => line.replace(/\s+/g, " "));
}

function readJson(...path: string[]) {
  return JSON.parse(readFileSync(join(...path), "utf8"));
}

function sampleDir(): string {
  const dir = join(work, "content");
  mkdirSync(join(dir, "bin"), { recursive: true });
  writeFileSync(join(dir, "bin/tool"), "#!/bin/sh\n", { mode: 0o755 });
  writeFileSync(join(dir, "a"), "first");
  linkSync(join(dir, "a"), join(dir, "b"));
  symlinkSync("bin/tool", join(dir, "link"));
  return dir;
}

function sampleImage(dir: string, extra: Partial<OciImage> = {}): OciImage {
  return { name: "typevisor/sample:1", layers: [{ dir, at: "/opt/app" }], entrypoint: ["/opt/app/bin/tool"], ...extra };
}

describe("an OCI archive", () => {
  it("is an image layout whose blobs have the names of their digests", async () => {
    const written = await writeOciArchive(sampleImage(sampleDir(), { user: "65532" }), join(work, "out.tar"));
    const layout = untar(join(work, "out.tar"));
    const index = readJson(layout, "index.json");
    expect(readJson(layout, "oci-layout")).toEqual({ imageLayoutVersion: "1.0.0" });
    expect(index.manifests[0].digest).toBe(written.digest);
    const manifest = readJson(layout, "blobs", index.manifests[0].digest.replace(":", "/"));
    for (const blob of [index.manifests[0], manifest.config, ...manifest.layers]) {
      const bytes = readFileSync(join(layout, "blobs", blob.digest.replace(":", "/")));
      expect(`sha256:${createHash("sha256").update(bytes).digest("hex")}`).toBe(blob.digest);
      expect(bytes.length).toBe(blob.size);
    }
    const config = readJson(layout, "blobs", manifest.config.digest.replace(":", "/"));
    expect(config.config).toMatchObject({ Entrypoint: ["/opt/app/bin/tool"], User: "65532" });
    expect(config.rootfs.diff_ids).toEqual([manifest.layers[0].digest]);
  });

  it("tells containerd the image's full name", async () => {
    const written = await writeOciArchive(sampleImage(sampleDir()), join(work, "out.tar"));
    const annotations = readJson(untar(join(work, "out.tar")), "index.json").manifests[0].annotations;
    expect(written.name).toBe("docker.io/typevisor/sample:1");
    expect(annotations["io.containerd.image.name"]).toBe("docker.io/typevisor/sample:1");
    expect(annotations["org.opencontainers.image.ref.name"]).toBe("1");
  });

  it("keeps modes, symbolic and hard links, and gives everything to root at time 0", async () => {
    await writeOciArchive(sampleImage(sampleDir()), join(work, "out.tar"));
    expect(list(layerFile(join(work, "out.tar")))).toEqual([
      "drwxr-xr-x 0/0 0 1970-01-01 00:00 opt/",
      "drwxr-xr-x 0/0 0 1970-01-01 00:00 opt/app/",
      "-rw-r--r-- 0/0 5 1970-01-01 00:00 opt/app/a",
      "hrw-r--r-- 0/0 0 1970-01-01 00:00 opt/app/b link to opt/app/a",
      "drwxr-xr-x 0/0 0 1970-01-01 00:00 opt/app/bin/",
      "-rwxr-xr-x 0/0 10 1970-01-01 00:00 opt/app/bin/tool",
      "lrwxrwxrwx 0/0 0 1970-01-01 00:00 opt/app/link -> bin/tool",
    ]);
  });

  it("has the same bytes when made again from the same files with other times", async () => {
    const dir = sampleDir();
    await writeOciArchive(sampleImage(dir), join(work, "one.tar"));
    utimesSync(join(dir, "a"), new Date(1e12), new Date(1e12));
    await writeOciArchive(sampleImage(dir), join(work, "two.tar"));
    expect(readFileSync(join(work, "two.tar")).equals(readFileSync(join(work, "one.tar")))).toBe(true);
  });

  it.each(["gzip", "zstd"] as const)(
    "can have layers compressed with %s, with the digest of the plain tar",
    async (compression) => {
      const dir = sampleDir();
      writeFileSync(join(dir, "zeros"), Buffer.alloc(1 << 20));
      await writeOciArchive(sampleImage(dir), join(work, "plain.tar"));
      const packed = await writeOciArchive(sampleImage(dir, { compression }), join(work, "packed.tar"));
      expect(packed.sizeBytes).toBeLessThan(100_000);
      const { config, manifest } = imageOf(join(work, "packed.tar"));
      expect(config.rootfs.diff_ids).toEqual(imageOf(join(work, "plain.tar")).config.rootfs.diff_ids);
      expect(manifest.layers[0].mediaType).toBe(`application/vnd.oci.image.layer.v1.tar+${compression}`);
    },
  );

  it("takes single files and ready tars as layers", async () => {
    execFileSync("tar", ["-cf", join(work, "ready.tar"), "-C", sampleDir(), "a"]);
    const files = [
      { path: "/disk/disk.img", source: join(work, "content/a") },
      { path: "etc/motd", content: "hello" },
      { path: "etc/secret", content: "hello", mode: 0o440, owner: 107 },
      { path: "tmp", directory: true as const, mode: 0o1777 },
    ];
    await writeOciArchive({ name: "x", layers: [{ files }, { tar: join(work, "ready.tar") }] }, join(work, "out.tar"));
    expect(list(layerFile(join(work, "out.tar"))).map((line) => line.replace(/ 1970.*00:00/, ""))).toEqual([
      "drwxr-xr-x 0/0 0 disk/",
      "-rw-r--r-- 0/0 5 disk/disk.img",
      "drwxr-xr-x 0/0 0 etc/",
      "-rw-r--r-- 0/0 5 etc/motd",
      "-r--r----- 107/107 5 etc/secret",
      "drwxrwxrwt 0/0 0 tmp/",
    ]);
    expect(imageOf(join(work, "out.tar")).manifest.layers).toHaveLength(2);
  });

  it("refuses a path that leaves the image, and leaves no half archive behind", async () => {
    const image = { name: "x", layers: [{ files: [{ path: "../etc/passwd", content: "" }] }] };
    await expect(writeOciArchive(image, join(work, "out.tar"))).rejects.toThrow("must not contain '..'");
    expect(execFileSync("ls", ["-A", work], { encoding: "utf8" })).toBe("");
  });

  it("refuses what is neither file, directory nor link", async () => {
    execFileSync("mkfifo", [join(sampleDir(), "pipe")]);
    await expect(writeOciArchive(sampleImage(join(work, "content")), join(work, "out.tar"))).rejects.toThrow(
      "pipe: only files",
    );
  });
});

describe("completeImageName", () => {
  it.each([
    ["busybox", "docker.io/library/busybox:latest"],
    ["typevisor/launcher:dev", "docker.io/typevisor/launcher:dev"],
    ["localhost/x", "localhost/x:latest"],
    ["registry.example:5000/a/b", "registry.example:5000/a/b:latest"],
  ])("makes %s into %s", (name, complete) => {
    expect(completeImageName(name)).toBe(complete);
  });

  it("refuses what is no image name", () => {
    expect(() => completeImageName("a b")).toThrow("'a b' is not an image name");
  });
});

function imageOf(archive: string) {
  const layout = untar(archive);
  const manifest = readJson(layout, "blobs", readJson(layout, "index.json").manifests[0].digest.replace(":", "/"));
  return { layout, manifest, config: readJson(layout, "blobs", manifest.config.digest.replace(":", "/")) };
}

function layerFile(archive: string): string {
  const { layout, manifest } = imageOf(archive);
  return join(layout, "blobs", manifest.layers[0].digest.replace(":", "/"));
}
