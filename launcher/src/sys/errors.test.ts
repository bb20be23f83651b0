import { describe, expect, it } from "@jest/globals";
import { SysError } from "./errors.ts";
import { closeFd, OwnedFd } from "./fd.ts";
import { openFile } from "./file-io.ts";

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("SysError", () => {
  it("names the call, what it was about, and the error", () => {
    const error = thrownBy(() => openFile("/nowhere/at/all"));
    expect(error).toBeInstanceOf(SysError);
    expect(error).toMatchObject({ call: "open", errno: 2, code: "ENOENT" });
    expect((error as SysError).message).toBe("open /nowhere/at/all: no such file or directory (ENOENT)");
  });
});

describe("OwnedFd", () => {
  it("closes once, and refuses its number afterwards", () => {
    const owned = openFile("/dev/null");
    const number = owned.fd;
    owned[Symbol.dispose]();
    using other = openFile("/dev/zero");
    expect(other.fd).toBe(number);
    owned[Symbol.dispose]();
    expect(() => owned.fd).toThrow("closed");
    expect(other.isOpen).toBe(true);
    expect(thrownBy(() => openFile(`/proc/self/fd/${number}`)[Symbol.dispose]())).toBeUndefined();
  });

  it("does not close what was taken from it", () => {
    const owned = openFile("/dev/null");
    const number = owned.take();
    owned[Symbol.dispose]();
    expect(thrownBy(() => openFile(`/proc/self/fd/${number}`)[Symbol.dispose]())).toBeUndefined();
    closeFd(number);
  });

  it("refuses what is no descriptor", () => {
    expect(() => new OwnedFd(-1)).toThrow(RangeError);
  });
});
