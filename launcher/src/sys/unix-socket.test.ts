import { mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { closeFd } from "./fd.ts";
import { openFile, pread } from "./file-io.ts";
import { createMemfd } from "./mapping.ts";
import { openPidFd, pidFdIsAlive } from "./process.ts";
import * as sockets from "./unix-socket.ts";

describe("passing descriptors", () => {
  it("hands over copies that refer to the same files", () => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    using null_ = openFile("/dev/null");
    using zero = openFile("/dev/zero");
    expect(sockets.sendFds(left.fd, Buffer.from("two\n"), [null_.fd, zero.fd])).toBe(4);
    const buffer = Buffer.alloc(16);
    const received = sockets.recvFds(right.fd, buffer, 4);
    expect(buffer.toString("latin1", 0, received.lengthBytes)).toBe("two\n");
    expect(received.fds.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`))).toEqual(["/dev/null", "/dev/zero"]);
    for (const fd of received.fds) fd[Symbol.dispose]();
  });

  it("carries bytes without descriptors", () => {
    const [left, right] = sockets.socketPair();
    using _right = right;
    sockets.sendFds(left.fd, Buffer.from("x"), []);
    left[Symbol.dispose]();
    const buffer = Buffer.alloc(4);
    expect(sockets.recvFds(right.fd, buffer, 3)).toEqual({ lengthBytes: 1, fds: [] });
    expect(sockets.recvFds(right.fd, buffer, 3)).toEqual({ lengthBytes: 0, fds: [] });
  });

  it.each([0, 1, 2])("reports descriptors that there was no room for: %i of 3", (room) => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    using memfd = createMemfd("sent", 4096);
    sockets.sendFds(left.fd, Buffer.from("x"), [memfd.fd, memfd.fd, memfd.fd]);
    const open = createMemfd("mark", 0).take();
    closeFd(open);
    expect(() => sockets.recvFds(right.fd, Buffer.alloc(4), room)).toThrow(sockets.DescriptorsLost);
    using next = createMemfd("mark", 0);
    expect(next.fd).toBe(open);
  });

  it("closes received descriptors on exec", () => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    sockets.sendFds(left.fd, Buffer.from("x"), [left.fd]);
    const [copy] = sockets.recvFds(right.fd, Buffer.alloc(1), 1).fds;
    if (copy === undefined) throw new Error("nothing received");
    using info = openFile(`/proc/self/fdinfo/${copy.fd}`);
    const buffer = Buffer.alloc(200);
    const flags = /flags:\s+(\d+)/.exec(buffer.toString("latin1", 0, pread(info.fd, buffer, 0)))?.[1];
    copy[Symbol.dispose]();
    expect(Number.parseInt(flags ?? "0", 8) & 0o2000000).not.toBe(0);
  });

  it("does not wait for a full socket", () => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    const block = Buffer.alloc(1 << 16);
    expect(() => {
      for (;;) sockets.sendFds(left.fd, block, []);
    }).toThrow("EAGAIN");
  });

  it("stops waiting for a silent peer", () => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    sockets.setSocketTimeout(left.fd, 10);
    expect(() => sockets.recvFds(left.fd, Buffer.alloc(1), 0)).toThrow("EAGAIN");
  });
});

describe("the peer of a socket", () => {
  it("is known by its process", () => {
    const [left, right] = sockets.socketPair();
    using _left = left;
    using _right = right;
    expect(sockets.peerCredentials(left.fd)).toEqual({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    using pidFd = sockets.peerPidFd(left.fd);
    expect(pidFdIsAlive(pidFd.fd)).toBe(true);
  });

  it("does not exist for a process that never was", () => {
    expect(() => openPidFd(2 ** 22 + 1)).toThrow("pidfd_open");
  });
});

describe("connecting", () => {
  it("reaches a listening socket by its path", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sock-"));
    const path = join(directory, "s");
    const server = await new Promise<Server>((resolve) => {
      const listening = createServer().listen(path, () => resolve(listening));
    });
    using socket = sockets.connectUnix(path);
    expect(sockets.peerCredentials(socket.fd).pid).toBe(process.pid);
    server.close();
    rmSync(directory, { recursive: true });
  });

  it("says what is wrong with a path", () => {
    expect(() => sockets.connectUnix("/nowhere.sock")).toThrow("connect /nowhere.sock: no such file");
    expect(() => sockets.connectUnix(`/${"a".repeat(108)}`)).toThrow("fewer than 108 bytes");
  });
});
