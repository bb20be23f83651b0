import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { dependenciesOf, modulesInOrder } from "./initramfs.ts";

describe("the kernel modules of an initramfs", () => {
  let packages: string;
  const module = (path: string, depends: string) => {
    const file = join(packages, "usr/lib/modules/6.0/kernel", path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, `\x7fELF\0license=GPL\0depends=${depends}\0retpoline=Y\0`);
  };
  beforeEach(() => {
    packages = mkdtempSync(join(tmpdir(), "initramfs-test-"));
  });
  afterEach(() => rmSync(packages, { recursive: true }));

  it("come after what they depend on, each once", async () => {
    module("net/virtio_net.ko", "net_failover");
    module("net/net_failover.ko", "failover");
    module("core/failover.ko", "");
    module("other/user.ko", "failover,virtio_net");
    const order = await modulesInOrder(packages, ["user", "virtio_net"]);
    expect(order.map(({ name }) => name)).toEqual(["failover", "net_failover", "virtio_net", "user"]);
  });

  it("are found whether a name is written with dashes or underscores", async () => {
    module("char/virtio-rng.ko", "");
    expect((await modulesInOrder(packages, ["virtio_rng"])).map(({ name }) => name)).toEqual(["virtio_rng"]);
  });

  it("must be in the kernel package", async () => {
    module("a.ko", "missing_one");
    await expect(modulesInOrder(packages, ["a"])).rejects.toThrow("no module 'missing_one'");
  });

  it("may depend on nothing", () => {
    expect(dependenciesOf(Buffer.from("\0depends=\0"))).toEqual([]);
  });
});
