import { createHash } from "node:crypto";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { InterfaceAttachment } from "../../launcher/api/machine-config.ts";

/** The other end of a guest's network: a namespace of the lab with a TAP, as a pod's is with masquerade. */
export interface NetworkPeer extends AsyncDisposable {
  readonly device: string;
  /** One more TAP, with 10.0.3.1/24, for which nothing is served. */
  readonly bareDevice: string;
  /** Runs a line of shell in the namespace. */
  run(line: string): Promise<string>;
  /** Starts a program in the namespace; answers its process number. */
  start(program: string): Promise<number>;
}

/** Of the lab: what a guest's launcher is to run in. */
export const peerNamespace = "guest-network";
const device = "tap0";
const bareDevice = "tap1";

/** A guest behind that device. */
export const attachment: InterfaceAttachment = {
  kind: "tap",
  device,
  guest: {
    ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" },
    ipv6: { address: "fd10:0:2::2", prefixLength: 120, gateway: "fd10:0:2::1", gatewayMac: "02:00:00:00:00:01" },
  },
};

/** What the launcher finds in its /etc/resolv.conf there. */
const resolver = "search default.svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n";

export async function makeNetworkPeer(lab: LinuxLab, mtuBytes: number): Promise<NetworkPeer> {
  const ip = `ip -n ${peerNamespace}`;
  await lab.run(`mkdir -p /etc/netns/${peerNamespace} && cat >/etc/netns/${peerNamespace}/resolv.conf`, resolver);
  await lab.run(
    [
      "set -e",
      "modprobe -qa tun vhost_net || true",
      `ip netns del ${peerNamespace} 2>/dev/null || true`,
      `ip netns add ${peerNamespace}`,
      `${ip} link set lo up`,
      `${ip} tuntap add dev ${device} mode tap vnet_hdr multi_queue`,
      `${ip} link set ${device} mtu ${mtuBytes} address 02:00:00:00:00:01`,
      `${ip} addr add 10.0.2.1/24 dev ${device}`,
      `${ip} addr add fd10:0:2::1/120 dev ${device} nodad`,
      `${ip} addr add fe80::1/64 dev ${device} nodad`,
      `${ip} link set ${device} up`,
      `${ip} tuntap add dev ${bareDevice} mode tap vnet_hdr multi_queue`,
      `${ip} addr add 10.0.3.1/24 dev ${bareDevice}`,
      `${ip} link set ${bareDevice} up`,
    ].join("\n"),
  );
  return {
    device,
    bareDevice,
    run: (line) => lab.run(`ip netns exec ${peerNamespace} sh -c '${line}'`),
    start: async (program) =>
      Number(await lab.run(`ip netns exec ${peerNamespace} ${program} >/dev/null 2>&1 </dev/null & echo $!`)),
    async [Symbol.asyncDispose]() {
      await lab.run(`ip netns del ${peerNamespace}; rm -rf /etc/netns/${peerNamespace}`);
    },
  };
}

/**
 * A program for Node that serves TCP at port 7000: sends the bytes that a seed gives, or takes what comes and tells its
 * checksum. A line says which: "send BYTES" or "take BYTES". Given a path, it listens there instead.
 */
export const streamServer = `
const { createHash } = require("node:crypto");
const chunk = Buffer.alloc(65536, (i) => 0);
for (let i = 0; i < chunk.length; i++) chunk[i] = (i * 31 + (i >> 8)) & 255;
require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
  socket.on("error", () => {});
  let head = Buffer.alloc(0), left = -1;
  const hash = createHash("sha256");
  const take = (bytes) => {
    hash.update(bytes);
    left -= bytes.length;
    if (left <= 0) socket.end(hash.digest("hex") + "\\n");
  };
  socket.on("data", (bytes) => {
    if (left >= 0) return take(bytes);
    head = Buffer.concat([head, bytes]);
    const end = head.indexOf(10);
    if (end < 0) return;
    const [verb, count] = head.toString("latin1", 0, end).split(" ");
    left = Number(count);
    if (verb === "take") return take(head.subarray(end + 1));
    const pump = () => {
      while (left > 0) {
        const part = chunk.subarray(0, Math.min(left, chunk.length));
        left -= part.length;
        if (!socket.write(part)) return;
      }
      socket.end();
    };
    socket.on("drain", pump);
    pump();
  });
}).listen(process.argv[2] ?? { port: 7000, host: "::" });
`;

/** The checksum of what "send BYTES" sends. */
export function streamChecksum(bytes: number): string {
  const chunk = Buffer.from(Uint8Array.from({ length: 65_536 }, (_, i) => (i * 31 + (i >> 8)) & 255));
  const hash = createHash("sha256");
  for (let left = bytes; left > 0; left -= chunk.length) hash.update(chunk.subarray(0, Math.min(left, chunk.length)));
  return hash.digest("hex");
}

/**
 * A program for Node that connects to a port of the guest by the socket of its virtio-vsock, sends BYTES as "send" does,
 * and tells the checksum of what it gets back. Its arguments are the socket's path, the port and BYTES.
 */
export const vsockCaller = `
const [path, port, bytes] = process.argv.slice(2);
const chunk = Buffer.alloc(Number(bytes));
for (let i = 0; i < chunk.length; i++) chunk[i] = ((i & 65535) * 31 + ((i & 65535) >> 8)) & 255;
const hash = require("node:crypto").createHash("sha256");
const socket = require("node:net").connect({ path, allowHalfOpen: true }, () => socket.write("CONNECT " + port + "\\n"));
socket.once("data", (answer) => {
  if (!/^OK \\d+\\n$/.test(answer)) throw new Error("the guest was not reached: " + answer);
  socket.on("data", (part) => hash.update(part));
  socket.end(chunk);
});
socket.on("end", () => console.log(hash.digest("hex")));
`;
