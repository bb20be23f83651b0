import { fstatSync, openSync } from "node:fs";
import { describe, expect, it } from "@jest/globals";
import { OwnedFd } from "./fd.ts";
import { fileKindOf } from "./file-kind.ts";
import { socketPair } from "./unix-socket.ts";

describe("the kind of an open file", () => {
  it.each([import.meta.filename, "/", "/dev/null"])("is what fstat says of %s", (path) => {
    using fd = new OwnedFd(openSync(path, "r"));
    const stat = fstatSync(fd.fd, { bigint: true });
    expect(fileKindOf(fd.fd)).toEqual({ isFile: stat.isFile(), isBlockDevice: stat.isBlockDevice(), rdev: stat.rdev });
  });

  it("is neither for a socket", () => {
    const [one, other] = socketPair();
    using _one = one;
    using _other = other;
    expect(fileKindOf(one.fd)).toMatchObject({ isFile: false, isBlockDevice: false });
  });
});
