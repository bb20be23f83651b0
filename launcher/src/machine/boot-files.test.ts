import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { BootImageError } from "../boot/boot-image-error.ts";
import { readFully } from "../boot/file-source.ts";
import { BootFiles } from "./boot-files.ts";

let base: string;
let imageRoot: string;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "boot-"));
  imageRoot = join(base, "image");
  mkdirSync(join(imageRoot, "boot"), { recursive: true });
  writeFileSync(join(base, "secret"), "of the host");
  writeFileSync(join(imageRoot, "boot/vmlinuz-6.12"), "kernel");
  writeFileSync(join(imageRoot, "boot/initrd"), "initrd");
  symlinkSync("/boot/vmlinuz-6.12", join(imageRoot, "vmlinuz"));
  symlinkSync("../../secret", join(imageRoot, "boot/escape"));
});

afterAll(() => rmSync(base, { recursive: true }));

const open = (kernelPath: string, initrdPath?: string) =>
  new BootFiles({ imageRoot, kernelPath, commandLine: "", ...(initrdPath && { initrdPath }) });

describe("the files that a machine boots from", () => {
  it("are read inside of the image, symbolic links too", async () => {
    using files = open("/vmlinuz", "/boot/initrd");
    const bytes = Buffer.alloc(4);
    await readFully(files.kernel, bytes, 2);
    expect(bytes.toString()).toBe("rnel");
    expect([files.kernel.sizeBytes, files.initrd?.name]).toEqual([6, "/boot/initrd"]);
  });

  it("may be a firmware of the launcher's own", async () => {
    const firmwarePath = join(base, "secret");
    using files = new BootFiles({ firmwarePath });
    expect([files.kernel.name, files.kernel.sizeBytes, files.initrd]).toEqual([firmwarePath, 11, undefined]);
    expect(() => new BootFiles({ firmwarePath: "/nowhere/fw" })).toThrow(
      /^\/nowhere\/fw: the firmware cannot be opened/,
    );
  });

  it("are none of the host's", () => {
    expect(() => open("/boot/escape")).toThrow("/boot/escape: it cannot be opened in the image");
  });

  it.each([
    ["/boot/none", "no such file"],
    ["/boot", "this is a directory"],
  ])("are missed by name: %s", (path, found) => {
    expect(() => open("/vmlinuz", path)).toThrow(BootImageError);
    expect(() => open("/vmlinuz", path)).toThrow(found);
  });
});
