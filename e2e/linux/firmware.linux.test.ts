import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import type { DiskConfig, InterfaceConfig } from "../../launcher/api/machine-config.ts";
import { generatedNetworkData } from "../../operator/src/controllers/virtualmachine/network-data.ts";
import { machine } from "../../operator/src/controllers/virtualmachine/testing/fixtures.ts";
import { CloudClaim } from "./cloud-claim.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { HotDisk } from "./hot-disk.ts";
import { attachment, makeNetworkPeer, type NetworkPeer, peerNamespace } from "./network-peer.ts";

const bootMs = 600_000;
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTlL5IyCkE2H+KbpbF54LhR1TGBaddByS3+3XkspRUd keeper@example";
const userData = `#cloud-config
users:
- {name: keeper, ssh_authorized_keys: [${publicKey}]}
write_files:
- {path: /etc/from-the-seed, content: "written once\\n"}
`;

const mac = "02:5a:00:12:34:58";
const nic: InterfaceConfig = {
  name: "default",
  mac,
  queues: 1,
  link: "up",
  attachment,
  dataPath: "inProcess",
  dhcp: {},
};
/** As for a machine that says nothing of its network. */
const networkData = generatedNetworkData(
  machine({ interfaces: [{ name: "default", masquerade: {}, macAddress: mac, state: "Up" }] }),
);
/** The same addresses, and nothing asked for. */
const staticNetworkData = `version: 2
ethernets:
  default:
    match: {macaddress: "${mac}"}
    dhcp4: false
    dhcp6: false
    accept-ra: false
    addresses: [10.0.2.2/24, "fd10:0:2::2/120"]
    routes: [{to: 0.0.0.0/0, via: 10.0.2.1}, {to: "::/0", via: "fd10:0:2::1"}]
    nameservers: {addresses: [10.96.0.10, "fd00:10:96::a"], search: [static.example]}
`;

describe("a cloud image on a claim", () => {
  let lab: LinuxLab;
  let guest: Guest;
  let hotDisk: HotDisk;
  let checksum: string;
  let claim: CloudClaim;
  let peer: NetworkPeer;
  let loader: DiskConfig;
  const boot = (loaderFirst?: "loader first") =>
    bootGuest(lab, {
      image: "debian-cloud",
      memoryMiB: 512,
      namespace: peerNamespace,
      prepare: async () => {
        peer = await makeNetworkPeer(lab, 1500);
      },
      change: (config) => {
        const { disks, ...own } = claim.change(config);
        return { ...own, disks: [...(loaderFirst ? [loader] : []), ...disks], interfaces: [nic] };
      },
    });
  /** Until then a new instance tells of its keys on the console, between commands and their answers. */
  const cloudInitIsDone = () => guest.console.shell("cloud-init status --wait >/dev/null", bootMs);
  /** Where the lab is this machine itself, its launcher alone is killed. */
  const switchOff = async () => {
    if (lab.kind === "node") return await lab.restart();
    await lab.run(`kill -KILL ${guest.pid}`);
    await guest.ended;
  };

  beforeAll(async () => {
    lab = await openLab();
    claim = await CloudClaim.make(lab, userData, networkData ?? "");
    guest = await boot();
  }, 1_800_000);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    await peer?.[Symbol.asyncDispose]();
  });

  it("boots by UEFI from its own boot loader, kernel and root", async () => {
    await cloudInitIsDone();
    expect(await guest.console.shell("ls -d /sys/firmware/efi/efivars")).toBe("/sys/firmware/efi/efivars");
    expect(await guest.console.shell("findmnt -no SOURCE,FSTYPE /")).toBe("/dev/vda1 ext4");
    expect(await guest.console.shell("cat /proc/cmdline")).toMatch(/^BOOT_IMAGE=.*\/boot\/vmlinuz root=UUID=/);
  });

  it("has the tables and devices that the firmware handed on", async () => {
    expect(await guest.console.shell("cat /sys/block/vda/serial")).toBe("root");
    const complaints = await guest.console.shell(
      "dmesg --level=err,crit,alert,emerg | grep -iE 'acpi|pci|efi' || true",
    );
    expect(complaints).toBe("");
  });

  it("does what its cloud-init seed says", async () => {
    const { console } = guest;
    expect(await console.shell("cloud-init status --wait | tail -1", bootMs)).toBe("status: done");
    expect(await console.shell("cat ~keeper/.ssh/authorized_keys")).toContain(publicKey);
    expect(await console.shell("cat /etc/from-the-seed")).toBe("written once");
    expect(await console.shell("cat /var/lib/cloud/data/instance-id")).toBe(claim.instanceId);
    expect(await console.shell("hostname")).toBe("keeper");
  });

  it("has the addresses of both families, by the network data that is made where none is given", async () => {
    const show = "ip -o -color=never addr show scope global";
    // The one of IPv6 comes last: a router has to be heard first.
    await guest.console.shell(`until ${show} | grep -q inet6; do sleep 1; done`, 180_000);
    const addresses = await guest.console.shell(show);
    expect(addresses).toContain("10.0.2.2/24");
    expect(addresses).toContain("fd10:0:2::2/128");
  });

  it("has grown its root to the end of the claim, which is larger than the image", async () => {
    const sectors = async (path: string) => Number(await guest.console.shell(`cat /sys/block/vda/${path}`));
    const disk = await sectors("size");
    expect(disk).toBe(2 ** 30 / 512);
    expect((await sectors("vda1/start")) + (await sectors("vda1/size"))).toBeGreaterThan(disk - 4096);
  });

  it("takes a disk while it runs", async () => {
    hotDisk = await HotDisk.make(lab, guest);
    await hotDisk.plug();
    await guest.console.shell(`head -c 1M /dev/urandom >${HotDisk.device} && sync`, 120_000);
    checksum = await guest.console.shell(`head -c 1M ${HotDisk.device} | sha256sum`, 120_000);
  });

  it("takes a second disk that can be booted, which says so to the kernel", async () => {
    const path = await claim.makeLoaderDisk(lab);
    loader = { name: "loader", readOnly: false, queues: 1, source: { kind: "raw", path } };
    const disk = new HotDisk(guest, loader);
    await disk.plug();
    const kernel = "linux /boot/vmlinuz root=UUID=$(findmnt -no UUID /) rw console=ttyS0 quiet panic=-1 from=loader";
    const lines = `search.fs_uuid $(findmnt -no UUID /) root\\n${kernel}\\ninitrd /boot/initrd.img\\nboot\\n`;
    await guest.console.shell(`mount ${disk.device} /mnt && printf "${lines}" >/mnt/EFI/debian/grub.cfg`, 120_000);
    await guest.console.shell("umount /mnt && sync", 120_000);
  });

  it("takes another seed while it runs, with static addresses, as a new instance", async () => {
    await new HotDisk(guest, claim.seed).unplug();
    await claim.changeNetwork(lab, staticNetworkData);
    await new HotDisk(guest, claim.seed).plug();
  });

  it("comes back through the firmware when it reboots, in the same process and from the same disk", async () => {
    guest.console.type("reboot\n");
    await guest.console.see("automatic login", bootMs);
    await guest.console.see(/root@keeper:~# /, bootMs);
    expect((await guest.launcher.status()).reboots).toBe(1);
    await lab.run(`kill -0 ${guest.pid}`);
    expect(await guest.console.shell("cat /proc/cmdline")).not.toContain("from=loader");
    await new HotDisk(guest, loader).unplug();
  });

  it("has the addresses, routes and name servers that it was given by hand, and none by asking", async () => {
    await cloudInitIsDone();
    const { console } = guest;
    expect(await console.shell("cat /var/lib/cloud/data/instance-id")).toBe(claim.instanceId);
    const show = "ip -o -color=never addr show scope global";
    await console.shell(`until ${show} | grep inet6 | grep -qv tentative; do sleep 1; done`, 180_000);
    const addresses = (await console.shell(show)).split("\n").map((line) => / (inet6? \S+) .*scope (.*?)\\/.exec(line));
    expect(addresses.map((found) => found?.slice(1))).toEqual([
      ["inet 10.0.2.2/24", expect.stringMatching(/^global \S+$/)],
      ["inet6 fd10:0:2::2/120", expect.stringMatching(/^global *$/)],
    ]);
    expect(await console.shell("ip -4 -color=never route show default")).toMatch(
      /^default via 10\.0\.2\.1 .*proto static/,
    );
    expect(await console.shell("ip -6 -color=never route show default")).toMatch(
      /^default via fd10:0:2::1 .*proto static/,
    );
    const resolved = await console.shell("cat /run/systemd/netif/links/*");
    for (const told of ["10.96.0.10", "fd00:10:96::a", "static.example"]) expect(resolved).toContain(told);
    expect(await console.shell("ls -A /run/systemd/netif/leases")).toBe("");
  });

  it("reaches its gateway with them and is reached, over IPv4 and IPv6", async () => {
    const [status] = (await guest.launcher.status()).interfaces ?? [];
    expect(status?.addresses).toEqual(["10.0.2.2", "fd10:0:2::2"]);
    for (const target of ["10.0.2.1", "fd10:0:2::1"])
      expect(await guest.console.shell(`ping -c 3 -i 0.2 -W 30 ${target} | grep -c 'bytes from'`, 120_000)).toBe("3");
    for (const target of ["10.0.2.2", "fd10:0:2::2"])
      expect(await peer.run(`busybox ping -c 3 -W 30 ${target} | grep -c "bytes from"`)).toBe("3\n");
  });

  it("still has the disk that came while it ran, and gives it up", async () => {
    expect(await guest.console.shell(`head -c 1M ${HotDisk.device} | sha256sum`, 120_000)).toBe(checksum);
    await hotDisk.unplug();
  });

  it("keeps what it wrote when its node is switched off, and does not do again what the seed says", async () => {
    await guest.console.shell("head -c 8M /dev/urandom >/root/kept && sha256sum /root/kept >/root/kept.sum", 120_000);
    await guest.console.shell("echo and changed since >>/etc/from-the-seed && sync", 120_000);
    // Boot entries that nobody can read any more: the firmware goes by the path for removable media.
    await guest.console.shell("head -c 4096 /dev/urandom >/boot/efi/NvVars && sync", 120_000);
    await switchOff();
    await guest[Symbol.asyncDispose]();
    guest = await boot("loader first");
    expect(await guest.console.shell("cat /proc/cmdline")).toContain("from=loader");
    expect(await guest.console.shell("cat /etc/from-the-seed")).toBe("written once\nand changed since");
    expect(await guest.console.shell("sha256sum --check --quiet /root/kept.sum", 120_000)).toBe("");
  });

  it("powers off", async () => {
    guest.console.type("poweroff\n");
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestPowerOff");
    expect(end.exitCode).toBe(0);
  });
});
