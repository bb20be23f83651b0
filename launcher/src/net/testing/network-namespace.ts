import { execFileSync, spawn } from "node:child_process";
import { openFile } from "../../sys/file-io.ts";
import { setNamespace } from "../../sys/namespaces.ts";

let made = 0;

/** A network namespace of a test's own, with what `ip` can make in it. Needs root and iproute2. */
export class TestNamespace implements Disposable {
  readonly name = `tv-test-${process.pid}-${made++}`;

  constructor() {
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link set lo up");
  }

  /** A TAP with the given address, up. */
  addTap(device: string, address: string, { multiQueue = false } = {}): void {
    this.ip(`tuntap add dev ${device} mode tap vnet_hdr${multiQueue ? " multi_queue" : ""}`);
    this.ip(`addr add ${address} dev ${device}`);
    this.ip(`link set ${device} up`);
  }

  /** Nothing of IPv6 is on its devices: without addresses nobody speaks but the test. */
  withoutIpv6(): void {
    this.#shell("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
  }

  /** Rules of nftables, as in a file. */
  filter(rules: string): void {
    this.#shell("nft -f -", rules);
  }

  #shell(line: string, input = ""): void {
    execFileSync("ip", ["netns", "exec", this.name, "sh", "-c", line], { input });
  }

  ip(command: string): string {
    return execFileSync("ip", ["-n", this.name, ...command.split(" ")], { encoding: "utf8" });
  }

  /** Runs a program in it to its end; answers its exit code and output. */
  run(program: string, ...args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string }> {
    const child = spawn("ip", ["netns", "exec", this.name, program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
  }

  /** Calls `act` with this thread in the namespace; it must not wait for anything. */
  within<Result>(act: () => Result): Result {
    using own = openFile("/proc/thread-self/ns/net");
    using other = openFile(`/run/netns/${this.name}`);
    setNamespace(other.fd, "network");
    try {
      return act();
    } finally {
      setNamespace(own.fd, "network");
    }
  }

  [Symbol.dispose](): void {
    execFileSync("ip", ["netns", "del", this.name]);
  }
}
