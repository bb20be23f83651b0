import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openFile, preadFully } from "./file-io.ts";
import { openInRoot } from "./open-in-root.ts";

let base: string;
let root: string;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "root-"));
  root = join(base, "root");
  mkdirSync(join(root, "boot"), { recursive: true });
  writeFileSync(join(base, "secret"), "secret");
  writeFileSync(join(root, "boot/vmlinuz"), "kernel");
  symlinkSync("/boot/vmlinuz", join(root, "vmlinuz"));
  symlinkSync("../../secret", join(root, "boot/escape"));
  symlinkSync("/proc/self/exe", join(root, "boot/magic"));
});

afterAll(() => rmSync(base, { recursive: true }));

function read(path: string, options = {}): string {
  using file = openInRoot(root, path, options);
  const buffer = Buffer.alloc(16);
  return buffer.subarray(0, preadFully(file.fd, buffer, 0)).toString();
}

describe("opening a path inside a root", () => {
  it("takes absolute and relative paths, and symbolic links, as the root's own", () => {
    expect(read("/boot/vmlinuz")).toBe("kernel");
    expect(read("boot/vmlinuz")).toBe("kernel");
    expect(read("vmlinuz")).toBe("kernel");
  });

  it("takes the root as a descriptor too", () => {
    using directory = openFile(root);
    using file = openInRoot(directory.fd, "boot/vmlinuz");
    expect(file.isOpen).toBe(true);
  });

  it.each(["../secret", "boot/escape", "/../../secret", "boot/../../secret"])("does not leave it by %s", (path) => {
    expect(() => read(path)).toThrow("ENOENT");
  });

  it("does not follow links that only exist outside", () => {
    expect(() => read("boot/magic")).toThrow(/ENOENT|ELOOP/);
  });

  it("refuses symbolic links where asked", () => {
    expect(() => read("vmlinuz", { noSymlinks: true })).toThrow("ELOOP");
  });

  it("opens a mere handle that cannot be read", () => {
    using handle = openInRoot(root, "boot/vmlinuz", { pathOnly: true });
    expect(() => preadFully(handle.fd, Buffer.alloc(1), 0)).toThrow("EBADF");
    using again = openFile(`/proc/self/fd/${handle.fd}`);
    expect(again.isOpen).toBe(true);
  });
});
