import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { AgentFailure } from "../agent-failure.ts";
import { parseRequest } from "../request.ts";

const masquerade = { kind: "masquerade", mac: "02:5a:00:12:34:56", ownPorts: [8443] };
const tap = { kind: "tap", name: "default", queues: 2, vhost: true, binding: masquerade };
const podIP = { kind: "podIP", ownPorts: [] };
const multus = { kind: "multus", podInterface: "net1" };
const http = { protocol: "TCP", port: 80 };

function parse(...want: unknown[]): unknown {
  const request = parseRequest(JSON.stringify({ version: 1, want }));
  return "want" in request ? request.want : undefined;
}

function refusal(...want: unknown[]): AgentFailure {
  try {
    parse(...want);
  } catch (error) {
    if (error instanceof AgentFailure) return error;
    throw error;
  }
  throw new Error("accepted");
}

describe("a request for TAPs", () => {
  it("is read with each of the bindings", () => {
    const want = [
      { ...tap, binding: { ...masquerade, ports: [http, { protocol: "UDP", port: 8443 }] } },
      { ...tap, name: "storage", binding: multus },
    ];
    expect(parse(...want)).toEqual(want);
    expect(parse({ ...tap, binding: podIP })).toEqual([{ ...tap, binding: podIP }]);
    expect(parse({ ...tap, binding: { ...podIP, ownPorts: [1, 2, 1] } })).toMatchObject([
      { binding: { ownPorts: [1, 2] } },
    ]);
  });

  it.each<[what: string, change: object, says: RegExp]>([
    ["no name", { name: undefined }, /name must be a DNS label/],
    ["a name for a shell", { name: "a;reboot" }, /name must/],
    ["a name for nftables", { name: 'a" drop' }, /name must/],
    ["a name that is too long", { name: "a".repeat(64) }, /name must/],
    ["a name that climbs", { name: "../../etc" }, /name must/],
    ["no queues", { queues: 0 }, /queues must be a whole number from 1 to 8/],
    ["too many queues", { queues: 9 }, /queues must/],
    ["half a queue", { queues: 1.5 }, /queues must/],
    ["queues in words", { queues: "2" }, /queues must/],
    ["vhost in words", { vhost: "yes" }, /vhost must/],
    ["no binding", { binding: undefined }, /binding is not an object/],
    ["an unknown binding", { binding: { kind: "bridge" } }, /binding.kind must be/],
    ["an unknown field", { script: "/bin/sh" }, /unknown field/],
    ["an unknown field of a binding", { binding: { ...podIP, mac: "02:00:00:00:00:01" } }, /unknown field/],
    ["a MAC for many", { binding: { ...masquerade, mac: "01:00:5e:00:00:01" } }, /binding.mac must/],
    ["a MAC of nobody", { binding: { ...masquerade, mac: "00:00:00:00:00:00" } }, /binding.mac must/],
    ["a MAC with more behind", { binding: { ...masquerade, mac: "02:5a:00:12:34:56 drop" } }, /binding.mac must/],
    ["a MAC with a line behind", { binding: { ...masquerade, mac: "02:5a:00:12:34:56\n" } }, /binding.mac must/],
    ["own ports that are none", { binding: { ...podIP, ownPorts: [0] } }, /binding.ownPorts must/],
    ["an own port in words", { binding: { ...podIP, ownPorts: ["80 }"] } }, /binding.ownPorts must/],
    ["too many own ports", { binding: { ...podIP, ownPorts: Array(65).fill(1) } }, /at most 64/],
    ["ports that are no list", { binding: { ...masquerade, ports: http } }, /binding.ports must/],
    ["too many ports", { binding: { ...masquerade, ports: Array(65).fill(http) } }, /at most 64/],
    ["a port that is too high", { binding: { ...masquerade, ports: [{ ...http, port: 65536 }] } }, /port in binding/],
    ["an unknown protocol", { binding: { ...masquerade, ports: [{ ...http, protocol: "ICMP" }] } }, /TCP, UDP, SCTP/],
    [
      "a port of the launcher's",
      { binding: { ...masquerade, ports: [{ ...http, port: 8443 }] } },
      /8443.*launcher's own/,
    ],
    ["an interface for a path", { binding: { ...multus, podInterface: "../all" } }, /podInterface must/],
    ["an interface for nftables", { binding: { ...multus, podInterface: 'net1"' } }, /podInterface must/],
    ["an interface that is too long", { binding: { ...multus, podInterface: "n".repeat(16) } }, /podInterface must/],
    ["an interface with a line behind", { binding: { ...multus, podInterface: "net1\n" } }, /podInterface must/],
  ])("with %s is refused", (_what, change, says) => {
    const failure = refusal({ kind: "kvm" }, { ...tap, ...change });
    expect([failure.code, failure.item]).toEqual(["BadRequest", 1]);
    expect(failure.message).toMatch(says);
  });

  it("for one name or one interface of the pod twice is refused", () => {
    expect(refusal(tap, { ...tap, binding: multus })).toMatchObject({ item: 1, message: /name default/ });
    expect(refusal(tap, { ...tap, name: "b", binding: podIP })).toMatchObject({ item: 1, message: /interface eth0/ });
    const two = [multus, multus].map((binding, index) => ({ ...tap, name: `n${index}`, binding }));
    expect(refusal(...two)).toMatchObject({ item: 1, message: /interface net1/ });
  });

  it("with anything in place of a part is refused in the same way", () => {
    const parts = ["name", "queues", "vhost", "binding"] as const;
    fc.assert(
      fc.property(fc.constantFrom(...parts), fc.oneof(fc.jsonValue(), fc.string()), (part, value) => {
        try {
          parse({ ...tap, [part]: value });
        } catch (error) {
          expect(error).toBeInstanceOf(AgentFailure);
        }
      }),
    );
  });
});
