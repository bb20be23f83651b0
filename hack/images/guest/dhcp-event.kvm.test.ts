import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { TestNamespace } from "../../../launcher/src/net/testing/network-namespace.ts";
import { DebianRelease } from "../debian-packages.ts";
import { suite } from "../image.ts";
import { unpackedKernel } from "./kernel.ts";

const devices = ["eth0", "eth1", "eth2"];

interface Lease {
  readonly interface: string;
  readonly [variable: string]: string;
}

const lease4 = (device: string, dns: string): Lease => {
  const number = devices.indexOf(device) + 1;
  const [ip, router] = [`10.0.${number}.2`, `10.0.${number}.1`];
  return {
    interface: device,
    ip,
    mask: "24",
    router,
    dns,
    mtu: "1450",
    hostname: "web",
    search: "a.example b.example",
  };
};
const lease6 = (device: string, dns: string): Lease => {
  return { interface: device, ipv6: `fd10:0:${devices.indexOf(device) + 1}::2`, dns, search: "a.example b.example" };
};

describe("what a small guest makes of its leases", () => {
  let open: DisposableStack;
  let space: TestNamespace;
  let root: string;
  let packages: string;

  beforeAll(async () => {
    packages = await unpackedKernel({ debian: new DebianRelease(suite), repository: "", say: () => {} });
  });
  beforeEach(() => {
    open = new DisposableStack();
    space = open.use(new TestNamespace());
    for (const device of devices) space.addTap(device, "192.0.2.1/32");
    root = mkdtempSync(join(tmpdir(), "dhcp-event-"));
    open.defer(() => rmSync(root, { recursive: true }));
    for (const directory of ["bin", "sbin", "usr/bin", "usr/sbin", "etc", "run", "www", "dev"])
      mkdirSync(join(root, directory), { recursive: true });
    copyFileSync(join(packages, "usr/bin/busybox"), join(root, "bin/busybox"));
    copyFileSync(join(import.meta.dirname, "dhcp-event"), join(root, "etc/dhcp-event"));
    execFileSync("chroot", [root, "/bin/busybox", "--install", "-s"]);
    // The machine's own name is not to change.
    rmSync(join(root, "bin/hostname"));
    writeFileSync(join(root, "bin/hostname"), `#!/bin/sh\necho "\${1:-web}"\n`, { mode: 0o755 });
  });
  afterEach(() => open[Symbol.dispose]());

  const tell = (event: string, lease: Lease) =>
    new Promise<void>((resolve, reject) => {
      const args = ["netns", "exec", space.name, "chroot", root, "/etc/dhcp-event", event];
      const env = { ...lease, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
      const child = spawn("ip", args, { env, stdio: ["ignore", "ignore", "inherit"] });
      child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`dhcp-event ended with ${code}`))));
    });
  const resolver = () => readFileSync(join(root, "etc/resolv.conf"), "utf8");

  it("has the name servers of all of them, however many come at once", async () => {
    const leases = devices.flatMap((device, n) => [
      lease4(device, `192.0.2.${n + 1} 192.0.2.53`),
      lease6(device, `2001:db8::${n + 1}`),
    ]);
    await Promise.all(leases.map((lease) => tell("bound", lease)));
    const servers = ["192.0.2.1", "192.0.2.53", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3", "2001:db8::3"];
    expect(resolver().split("\n")).toEqual([
      "search a.example b.example",
      ...servers.map((server) => `nameserver ${server}`),
      "",
    ]);
    expect(space.ip("-o addr show dev eth1")).toMatch(/10\.0\.2\.2\/24[\s\S]*fd10:0:2::2\/128/);
    expect(space.ip("route show default")).toMatch(/default via 10\.0\.\d\.1 /);
    expect(readFileSync(join(root, "www/hostname"), "utf8")).toBe("web\n");
  });

  it("forgets a name server that a renewed lease has no more, and keeps those of the other family", async () => {
    await tell("bound", lease4("eth0", "192.0.2.1"));
    await tell("bound", lease6("eth0", "2001:db8::1"));
    await tell("renew", lease4("eth0", "192.0.2.2"));
    expect(resolver()).toBe("search a.example b.example\nnameserver 192.0.2.2\nnameserver 2001:db8::1\n");
    await tell("deconfig", { interface: "eth0" });
    expect(resolver()).toContain("nameserver 192.0.2.2\n");
  });
});
