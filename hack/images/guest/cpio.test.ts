import { execFileSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import { writeCpio } from "./cpio.ts";

const archive = () =>
  writeCpio([
    { path: "bin", directory: true },
    { path: "bin/tool", content: Buffer.from("odd"), mode: 0o755 },
    { path: "bin/link", symlink: "tool" },
    { path: "empty", content: Buffer.alloc(0), mode: 0o600 },
  ]);

/** As GNU cpio sees it: mode, size and name of each entry. */
function listed(bytes: Buffer): string[] {
  const output = execFileSync("cpio", ["--list", "--verbose", "--numeric-uid-gid", "--quiet"], {
    input: bytes,
    encoding: "utf8",
    env: { TZ: "UTC", LC_ALL: "C" },
  });
  return output.trimEnd().split("\n");
}

describe("an initramfs archive", () => {
  it("is one that cpio reads, owned by root and without times", () => {
    expect(listed(archive()).map((line) => line.replace(/ +/g, " "))).toEqual([
      "drwxr-xr-x 1 0 0 0 Jan 1 1970 bin",
      "-rwxr-xr-x 1 0 0 3 Jan 1 1970 bin/tool",
      "lrwxrwxrwx 1 0 0 4 Jan 1 1970 bin/link -> tool",
      "-rw------- 1 0 0 0 Jan 1 1970 empty",
    ]);
  });

  it("keeps each entry on a four byte boundary, as the kernel's reader expects", () => {
    const bytes = archive();
    const starts = [...bytes.toString("latin1").matchAll(/070701/g)].map((match) => match.index);
    expect(starts).toHaveLength(5);
    expect(starts.filter((start) => start % 4 !== 0)).toEqual([]);
  });

  it("is the same bytes for the same entries", () => {
    expect(archive().equals(archive())).toBe(true);
  });
});
