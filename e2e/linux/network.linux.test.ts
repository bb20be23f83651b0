import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { waitFor } from "../../hack/lib/step.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import type { InterfaceConfig } from "../../launcher/api/machine-config.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { loadWeb, received } from "./network-load.ts";
import {
  attachment,
  makeNetworkPeer,
  type NetworkPeer,
  peerNamespace,
  streamChecksum,
  streamServer,
  vsockCaller,
} from "./network-peer.ts";

const MAC = "02:5a:00:12:34:56";
const MTU = 1450;
const STREAM_BYTES = 24 * 2 ** 20;
const VSOCK_BYTES = 4 * 2 ** 20;
const shellMs = 180_000;

const nic: InterfaceConfig = {
  name: "default",
  mac: MAC,
  queues: 2,
  link: "up",
  attachment,
  dataPath: "inProcess",
  dhcp: { hostname: "net-guest", ntpServers: ["192.0.2.123"] },
};

/** vhost-net carries its frames where the lab's kernel has it, which a node's does. */
const fastNic = (device: string): InterfaceConfig => ({
  name: "fast",
  mac: "02:5a:00:12:34:57",
  queues: 2,
  link: "up",
  attachment: { kind: "tap", device },
  dataPath: "auto",
});

describe("a Debian on a network", () => {
  let lab: LinuxLab;
  let peer: NetworkPeer;
  let guest: Guest;
  let server: number;
  let name: string;
  let fast: string;
  const shell = (line: string) => guest.console.shell(line, shellMs);

  beforeAll(async () => {
    lab = await openLab();
    guest = await bootGuest(lab, {
      image: "debian",
      cpus: 2,
      memoryMiB: 512,
      namespace: peerNamespace,
      prepare: async () => {
        peer = await makeNetworkPeer(lab, MTU);
      },
      change: (config) => ({
        ...config,
        interfaces: [nic, fastNic(peer.bareDevice)],
        vsock: { socketPath: join(dirname(config.control.socketPath), "vsock.sock"), guestCid: 3 },
      }),
    });
    await lab.run("cat >/tmp/stream-server.cjs", streamServer);
    server = await peer.start(`${lab.paths.node} /tmp/stream-server.cjs`);
    // On a terminal it colours its words otherwise.
    await shell("alias ip='ip -color=never'");
    [name = "", fast = ""] = (await shell("cd /sys/class/net && ls -d e*")).split(/\s+/);
  }, 900_000);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    if (server) await lab.run(`kill ${server}`);
    await peer?.[Symbol.asyncDispose]();
  });

  it("calls its interface by its slot, and has all its queues and the MTU", async () => {
    expect([name, fast]).toEqual([expect.stringMatching(/^en.*1$/), expect.stringMatching(/^en.*2$/)]);
    expect(await shell(`cat /sys/class/net/${name}/address /sys/class/net/${name}/mtu`)).toBe(`${MAC}\n${MTU}`);
    expect(await shell(`ls -d /sys/class/net/${name}/queues/rx-* | wc -l`)).toBe("2");
  });

  it("gets addresses, routes, names and servers by DHCPv4, DHCPv6 and router advertisements", async () => {
    const unit = `[Match]\\nName=${name}\\n[Network]\\nDHCP=yes\\nIPv6AcceptRA=yes\\n[DHCPv4]\\nUseMTU=yes\\n`;
    await shell(`printf '${unit}' >/etc/systemd/network/10-all.network && systemctl restart systemd-networkd`);
    await waitFor(
      async () => {
        const found = await shell(`ip -o addr show dev ${name} scope global`);
        return (found.includes("10.0.2.2/24") && found.includes("fd10:0:2::2/128")) || undefined;
      },
      { what: "addresses of both families", timeoutMs: 120_000, intervalMs: 1000 },
    );
    expect(await shell("ip -4 route show default")).toMatch(/default via 10\.0\.2\.1 .*proto dhcp/);
    expect(await shell("ip -6 route show default")).toMatch(/default .*via fe80::1 .*proto ra/);
    expect(await shell("ip -6 route show fd10:0:2::/120")).toMatch(/proto ra/);
    const lease = await shell("cat /run/systemd/netif/leases/*");
    expect(lease).toMatch(/DNS=10\.96\.0\.10/);
    expect(lease).toMatch(/DOMAINNAME=default\.svc\.cluster\.local/);
    expect(lease).toMatch(/DOMAIN_SEARCH_LIST=default\.svc\.cluster\.local cluster\.local/);
    expect(lease).toMatch(/HOSTNAME=net-guest/);
    expect(lease).toMatch(/NTP=192\.0\.2\.123/);
    expect(lease).toMatch(/LIFETIME=(86400|1d)/);
    expect(await shell("cat /run/systemd/netif/links/*")).toMatch(/fd00:10:96::a/);
  });

  it("renews its lease", async () => {
    await shell(`networkctl renew ${name}`);
    expect(await shell(`ip -o -4 addr show dev ${name} scope global`)).toContain("10.0.2.2/24");
  });

  it("reaches its neighbour and is reached, over IPv4 and IPv6", async () => {
    for (const target of ["10.0.2.1", "fd10:0:2::1"])
      expect(await shell(`ping -c 3 -i 0.2 -W 30 ${target} | grep -c 'bytes from'`)).toBe("3");
    for (const target of ["10.0.2.2", "fd10:0:2::2"])
      expect(await peer.run(`busybox ping -c 3 -W 30 ${target} | grep -c "bytes from"`)).toBe("3\n");
  });

  it.each([["10.0.2.1"], ["fd10:0:2::1"]])(
    "moves a stream both ways without a wrong byte, with %s",
    async (address) => {
      const received = `exec 3<>/dev/tcp/${address}/7000; echo send ${STREAM_BYTES} >&3; sha256sum <&3`;
      expect(await shell(`bash -c '${received}'`)).toBe(`${streamChecksum(STREAM_BYTES)}  -`);
      await shell(`head -c ${STREAM_BYTES} /dev/urandom >/root/stream`);
      const sent = `exec 3<>/dev/tcp/${address}/7000; (echo take ${STREAM_BYTES}; cat /root/stream) >&3; cat <&3`;
      const told = await shell(`bash -c '${sent}'`);
      expect(await shell("sha256sum </root/stream")).toBe(`${told}  -`);
    },
  );

  it("had the kernel cut its streams into segments", async () => {
    const [status] = (await guest.launcher.status()).interfaces ?? [];
    expect(status).toMatchObject({ dataPath: "inProcess", queues: 2, mtuBytes: MTU, link: "up" });
    expect(status?.addresses).toEqual(["10.0.2.2", "fd10:0:2::2"]);
    // Two streams out: with one frame a segment it would be as many as the bytes need.
    const packets = Number(await peer.run(`cat /sys/class/net/${peer.device}/statistics/rx_packets`));
    expect(packets).toBeLessThan((2 * STREAM_BYTES) / MTU / 2);
  });

  it.each(["10.0.2.2", "fd10:0:2::2"])("carries a load of TCP and UDP both ways, at %s", async (address) => {
    await shell("iperf3 --server --daemon --pidfile /run/iperf3; until ss -ltn | grep -q :5201; do sleep 0.1; done");
    const silent: string[] = [];
    for (const protocol of ["TCP", "UDP"] as const)
      for (const way of ["to the guest", "from the guest"] as const)
        if (!((await received(peer, { address, protocol, way })) > 0)) silent.push(`${protocol} ${way}`);
    expect(silent).toEqual([]);
    await shell("pkill --pidfile /run/iperf3");
  });

  it("serves ten thousand requests for a web page without an error", async () => {
    await shell("systemctl start nginx");
    expect(await peer.run("busybox wget -q -O - http://10.0.2.2/")).toContain("Welcome to nginx");
    const { requests, errors } = await loadWeb(peer, "10.0.2.2", 10_000);
    expect(requests).toBeGreaterThanOrEqual(10_000);
    expect(errors).toEqual([]);
    expect(await loadWeb(peer, "fd10:0:2::2", 100)).toMatchObject({ errors: [] });
    // The guest's own record. 499 is what a client did not wait for: the last requests when wrk's time is over.
    const answers = await shell("cut -d' ' -f9 /var/log/nginx/access.log | sort | uniq -c");
    expect(Number(/(\d+) 200$/m.exec(answers)?.[1])).toBeGreaterThanOrEqual(10_100);
    expect(answers).not.toMatch(/ (?!200$|499$)\d+$/m);
    await shell("systemctl stop nginx");
  });

  it("moves streams by the kernel's own path where there is one", async () => {
    const hasVhost = (await lab.run("test -c /dev/vhost-net && echo yes || true")) !== "";
    expect(hasVhost || lab.kind === "host").toBe(true);
    const status = (await guest.launcher.status()).interfaces?.[1];
    expect(status?.dataPath).toBe(hasVhost ? "vhost-net" : "inProcess");
    await shell(`ip link set ${fast} up && ip addr add 10.0.3.2/24 dev ${fast}`);
    expect(await shell("ping -c 3 -i 0.2 -W 30 10.0.3.1 | grep -c 'bytes from'")).toBe("3");
    const received = `exec 3<>/dev/tcp/10.0.3.1/7000; echo send ${STREAM_BYTES} >&3; sha256sum <&3`;
    expect(await shell(`bash -c '${received}'`)).toBe(`${streamChecksum(STREAM_BYTES)}  -`);
    const sent = `exec 3<>/dev/tcp/10.0.3.1/7000; (echo take ${STREAM_BYTES}; cat /root/stream) >&3; cat <&3`;
    expect(`${await shell(`bash -c '${sent}'`)}  -`).toBe(await shell("sha256sum </root/stream"));
    await guest.launcher.setLink("fast", "down");
    expect(await shell("ping -c 1 -W 2 10.0.3.1 | grep -c 'bytes from' || true")).toBe("0");
    await guest.launcher.setLink("fast", "up");
    await waitFor(
      async () => (await shell("ping -c 1 -W 5 10.0.3.1 | grep -c 'bytes from' || true")) === "1" || undefined,
      { what: "an answer", timeoutMs: 60_000, intervalMs: 200 },
    );
  });

  it("has streams by vsock as well, both ways, whoever connects", async () => {
    const path = guest.config.vsock?.socketPath;
    const vsockServer = await peer.start(`${lab.paths.node} /tmp/stream-server.cjs ${path}_7000`);
    await lab.run(`until [ -S ${path}_7000 ]; do sleep 0.1; done`);
    // Perl of Debian's base has no word for the family, nor for its addresses (sockaddr_vm of linux/vm_sockets.h).
    const socket = (port: number, cid: number) => `socket(S,40,1,0)||die$!; $a=pack("SSLLL",40,0,${port},${cid},0)`;
    const rest = "print while sysread(S,$_,65536)";
    const connect = `${socket(7000, 2)}; connect(S,$a)||die$!`;
    const received = `perl -e '${connect}; syswrite S,"send ${VSOCK_BYTES}\\n"; ${rest}'`;
    expect(await shell(`${received} | sha256sum`)).toBe(`${streamChecksum(VSOCK_BYTES)}  -`);
    await shell(`head -c ${VSOCK_BYTES} /dev/urandom >/root/vsock`);
    const copy = (from: string) => `select S; $|=1; while(sysread(${from},$_,65536)){print}`;
    const send = `${connect}; syswrite S,"take ${VSOCK_BYTES}\\n"; ${copy("STDIN")}; select STDOUT; ${rest}`;
    const told = await shell(`perl -e '${send}' </root/vsock`);
    expect(await shell("sha256sum </root/vsock")).toBe(`${told}  -`);
    await lab.run("cat >/tmp/vsock-caller.cjs", vsockCaller);
    const listen = `${socket(5000, 0xffff_ffff)}; bind(S,$a)||die$!; listen(S,1); $|=1; print "listens\\n"`;
    await shell(`(perl -e '${listen}; accept(C,S); *S=*C; ${copy("C")}' >/root/listens &)`);
    await shell("until grep -q listens /root/listens; do sleep 0.1; done");
    const echoed = await lab.run(`${lab.paths.node} /tmp/vsock-caller.cjs ${path} 5000 ${VSOCK_BYTES}`);
    expect(echoed.trim()).toBe(streamChecksum(VSOCK_BYTES));
    await lab.run(`kill ${vsockServer}`);
  });

  it("cannot use an address that is not its own", async () => {
    await shell(`ip addr add 10.0.2.77/24 dev ${name}`);
    expect(await shell("ping -c 2 -i 0.2 -W 2 -I 10.0.2.77 10.0.2.1 | grep -c 'bytes from' || true")).toBe("0");
    await shell(`ip addr del 10.0.2.77/24 dev ${name}`);
  });

  it("sees its link go down and come up", async () => {
    const carrier = (wanted: string) =>
      waitFor(async () => (await shell(`cat /sys/class/net/${name}/carrier`)) === wanted || undefined, {
        what: `carrier ${wanted}`,
        timeoutMs: 60_000,
        intervalMs: 200,
      });
    await guest.launcher.setLink("default", "down");
    await carrier("0");
    await guest.launcher.setLink("default", "up");
    await carrier("1");
    await waitFor(
      async () => (await shell("ping -c 1 -W 5 10.0.2.1 | grep -c 'bytes from' || true")) === "1" || undefined,
      {
        what: "an answer",
        timeoutMs: 60_000,
        intervalMs: 200,
      },
    );
  });
});
