import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ipv4Bytes, ipv6Bytes, macBytes, parseNetwork } from "./addresses.ts";
import { parseResolver } from "./resolver.ts";

describe("addresses", () => {
  it.each([
    ["::", new Array(16).fill(0)],
    ["::1", [...new Array(15).fill(0), 1]],
    ["fe80::", [0xfe, 0x80, ...new Array(14).fill(0)]],
    ["1:2:3:4:5:6:7:8", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
    ["2001:DB8::a:b", [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa, 0, 0xb]],
    ["::ffff:10.1.2.3", [...new Array(10).fill(0), 0xff, 0xff, 10, 1, 2, 3]],
  ])("reads %s", (text, bytes) => {
    expect([...ipv6Bytes(text)]).toEqual(bytes);
  });

  it("reads any eight groups", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), (groups) => {
        const bytes = ipv6Bytes(groups.map((group) => group.toString(16)).join(":"));
        expect([...bytes]).toEqual(groups.flatMap((group) => [group >>> 8, group & 0xff]));
      }),
    );
  });

  it("reads networks", () => {
    expect(parseNetwork("10.0.0.0/8")).toEqual({ address: ipv4Bytes("10.0.0.0"), prefixLength: 8 });
    expect(parseNetwork("fd00::/64")).toEqual({ address: ipv6Bytes("fd00::"), prefixLength: 64 });
  });

  it.each([
    ["fe80::1%eth0", ipv6Bytes],
    ["10.0.0.256", ipv4Bytes],
    ["02:5a:00:12:34", macBytes],
    ["10.0.0.0/33", parseNetwork],
    ["10.0.0.0", parseNetwork],
  ])("refuses %s", (text, read) => {
    expect(() => read(text)).toThrow(RangeError);
  });
});

describe("a resolver's configuration", () => {
  it("is what Kubernetes writes", () => {
    const text =
      "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
    expect(parseResolver(text)).toEqual({
      nameservers: ["10.96.0.10"],
      searchDomains: ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    });
  });

  it("leaves out what means nothing to another system, and what is none", () => {
    const text =
      "# comment\ndomain old.example\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver x\nnameserver 2001:db8::53 # here\nsearch good.example. bad..example -\n";
    expect(parseResolver(text)).toEqual({ nameservers: ["2001:db8::53"], searchDomains: ["good.example"] });
  });
});
