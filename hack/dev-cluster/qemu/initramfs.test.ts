import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { loadOrder, parseModulesDep, writeOverlay } from "./initramfs.ts";

const modulesDep = `kernel/drivers/net/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko.xz
kernel/net/net_failover.ko.xz: kernel/net/failover.ko.xz
kernel/net/failover.ko.xz:
kernel/drivers/block/virtio-blk.ko.xz:
`;

describe("the modules of a node's initramfs", () => {
  it("are loaded after what they depend on, each once", () => {
    expect(loadOrder(parseModulesDep(modulesDep), ["virtio_blk", "virtio_net"])).toEqual([
      "kernel/drivers/block/virtio-blk.ko.xz",
      "kernel/net/failover.ko.xz",
      "kernel/net/net_failover.ko.xz",
      "kernel/drivers/net/virtio_net.ko.xz",
    ]);
  });

  it("must be there", () => {
    expect(() => loadOrder(parseModulesDep(modulesDep), ["nvme"])).toThrow("no module 'nvme'");
  });
});

describe("the overlay of a node", () => {
  it("is an archive with every directory before its files, and modes as asked", () => {
    const dir = mkdtempSync(join(tmpdir(), "overlay-test-"));
    try {
      const archive = writeOverlay([
        { path: "/etc/node/start", content: "#!/bin/sh\n", mode: 0o755 },
        { path: "/etc/node/secret", content: "x" },
      ]);
      execFileSync("cpio", ["--extract", "--quiet"], { cwd: dir, input: archive });
      expect(readFileSync(join(dir, "overlay/etc/node/start"), "utf8")).toBe("#!/bin/sh\n");
      expect(statSync(join(dir, "overlay/etc/node/start")).mode & 0o777).toBe(0o755);
      expect(statSync(join(dir, "overlay/etc/node/secret")).mode & 0o777).toBe(0o600);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
