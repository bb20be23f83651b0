import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "@jest/globals";
import { type GuestAddresses, VNET_HEADER_BYTES } from "../../api/agent.ts";
import { watchFd } from "../sys/fd-watch.ts";
import { readPacket, writePacket } from "../sys/frame-io.ts";
import { until } from "../testing/until.ts";
import { ipv4Bytes, ipv6Bytes } from "./addresses.ts";
import { FILTER_BYTES, FrameFilter } from "./frame-filter.ts";
import { LinkServices } from "./link-services.ts";
import { openTap } from "./tap.ts";
import { MAC, macOfGuest, masquerade, network } from "./testing/guest.ts";
import { TestNamespace } from "./testing/network-namespace.ts";

const DEVICE = "guest0";

let open: AsyncDisposableStack;
let space: TestNamespace;
let directory: string;
beforeEach(() => {
  open = new AsyncDisposableStack();
  space = open.use(new TestNamespace());
  directory = mkdtempSync(join(tmpdir(), "link-services-"));
  open.defer(() => rmSync(directory, { recursive: true }));
});
afterEach(() => open[Symbol.asyncDispose]());

/** The kernel of the namespace is the guest; here is its network. Answers how many frames of each verdict there were. */
function serveNetwork(addresses: GuestAddresses) {
  space.ip(`tuntap add dev ${DEVICE} mode tap vnet_hdr`);
  space.ip(`link set ${DEVICE} address ${MAC}`);
  const [fd] = space.within(() => openTap(DEVICE, 1)).map((each) => open.use(each));
  if (!fd) throw new Error("no TAP");
  const services = new LinkServices(network(addresses));
  const identity = {
    mac: macOfGuest,
    ...(addresses.ipv4 && { ipv4: ipv4Bytes(addresses.ipv4.address) }),
    ...(addresses.ipv6 && { ipv6: ipv6Bytes(addresses.ipv6.address), router: ipv6Bytes("fe80::1") }),
  };
  const filter = new FrameFilter(identity, { drops: true, serves: true, standsForRouter: true });
  const verdicts = { pass: 0, drop: 0, serve: 0 };
  const buffer = new Uint8Array(new ArrayBuffer(70_000));
  open.use(
    watchFd(fd.fd, { readable: true }, () => {
      const lengthBytes = readPacket(fd.fd, buffer);
      if (lengthBytes <= VNET_HEADER_BYTES) return;
      const frame = buffer.subarray(VNET_HEADER_BYTES, lengthBytes);
      const verdict = filter.verdict(frame.subarray(0, FILTER_BYTES), frame.length);
      verdicts[verdict]++;
      const answer = verdict === "serve" ? services.answer(frame) : null;
      if (answer) writePacket(fd.fd, Buffer.concat([new Uint8Array(VNET_HEADER_BYTES), answer]));
    }),
  );
  space.ip(`link set ${DEVICE} up`);
  return verdicts;
}

/** Runs Debian's dhcpcd on the device; what its hooks are told is in the file that is answered. */
function startClient(): string {
  const told = join(directory, "told");
  const hook = join(directory, "hook");
  const config = join(directory, "dhcpcd.conf");
  writeFileSync(told, "");
  writeFileSync(hook, `#!/bin/sh\nenv >>${told}\n`);
  chmodSync(hook, 0o755);
  const options = ["domain_name_servers", "domain_name", "domain_search", "host_name", "ntp_servers", "interface_mtu"];
  const v6 = ["dhcp6_name_servers", "dhcp6_domain_search"];
  writeFileSync(config, `duid ll\nnoarp\nscript ${hook}\noption ${[...options, ...v6].join(",")}\nia_na\n`);
  const args = ["netns", "exec", space.name, "dhcpcd", "-B", "-f", config, DEVICE];
  const client = spawn("ip", args, { stdio: "ignore", detached: true });
  // There is one client a device, whatever the namespace: the next must not find this one's lock.
  open.defer(async () => {
    const ended = once(client, "exit");
    client.kill("SIGTERM");
    const impatience = setTimeout(() => process.kill(-(client.pid ?? 0), "SIGKILL"), 10_000);
    await ended;
    clearTimeout(impatience);
  });
  return told;
}

const shows = (command: string, what: RegExp) => until(() => what.test(space.ip(command)));

it("an ordinary client gets its addresses, routes and names by DHCPv4, router advertisement and DHCPv6", async () => {
  const verdicts = serveNetwork(masquerade);
  const told = startClient();
  await shows(`-o addr show dev ${DEVICE}`, / 10\.0\.2\.2\/24 /);
  await shows(`-o addr show dev ${DEVICE}`, / fd10:0:2::2\/128 /);
  await shows("-4 route show default", /default via 10\.0\.2\.1 /);
  await shows("-6 route show default", /default via fe80::1 /);
  await until(() => /new_dhcp6_name_servers=fd00:10:96::a/.test(readFileSync(told, "utf8")));
  const said = readFileSync(told, "utf8");
  expect(said).toContain("new_domain_name_servers=10.96.0.10\n");
  expect(said).toContain("new_domain_search=default.svc.cluster.local svc.cluster.local cluster.local\n");
  expect(said).toContain("new_host_name=web\n");
  expect(said).toContain("new_ntp_servers=192.0.2.123\n");
  expect(said).toContain("new_interface_mtu=1450\n");
  expect(said).toContain("new_dhcp_lease_time=86400\n");
  expect(said).toMatch(/nd1_rdnss1_servers=fd00:10:96::a/);
  expect(verdicts.drop).toBe(0);
});

it("a client that is alone in its network finds the way to a gateway beyond it", async () => {
  serveNetwork({ ipv4: { address: "10.244.1.7", prefixLength: 32, gateway: "169.254.1.1" } });
  startClient();
  await shows(`-o addr show dev ${DEVICE}`, / 10\.244\.1\.7\/32 /);
  await shows("-4 route", /169\.254\.1\.1 .*scope link/);
  await shows("-4 route", /default via 169\.254\.1\.1 /);
});
