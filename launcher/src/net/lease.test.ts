import { describe, expect, it } from "@jest/globals";
import { ipv6Bytes } from "./addresses.ts";
import { LinkServices } from "./link-services.ts";
import { network } from "./testing/guest.ts";
import { askDhcp4, askDhcp6, LeasingClient } from "./testing/leasing-client.ts";

const HOUR = 3_600;
const hex = (address: string) => Buffer.from(ipv6Bytes(address)).toString("hex");
const families = [
  { family: "IPv4", ask: askDhcp4, own: "10.0.2.2", foreign: "10.0.2.77", rebindHours: 21 },
  { family: "IPv6", ask: askDhcp6, own: hex("fd10:0:2::2"), foreign: hex("fd10:0:2::77"), rebindHours: 19.2 },
];
/** As a launcher that starts anew makes them: nothing is kept from the one before. */
const launcher = () => new LinkServices(network());

describe.each(families)("a lease of a day, $family", ({ ask, own, foreign, rebindHours }) => {
  it("is renewed every 12 hours, and never without its address, for a week", () => {
    const client = new LeasingClient(ask, launcher());
    client.runUntil(7 * 24 * HOUR);
    const renewals = Array.from({ length: 14 }, (_, i) => [(i + 1) * 12 * HOUR, "renew", own]);
    expect(client.events).toEqual([[0, "begin", own], ...renewals]);
  });

  it("is renewed by another launcher than the one that gave it", () => {
    const client = new LeasingClient(ask, launcher());
    client.runUntil(6 * HOUR);
    client.services = launcher();
    client.runUntil(12 * HOUR);
    expect(client.events).toEqual([
      [0, "begin", own],
      [12 * HOUR, "renew", own],
    ]);
  });

  it("is kept by a client whom nobody answers when it renews, and taken up when it asks all", () => {
    const client = new LeasingClient(ask, launcher());
    client.runUntil(HOUR);
    client.services = null;
    client.runUntil(rebindHours * HOUR - 1);
    const unanswered = client.events.slice(1);
    expect(unanswered.length).toBeGreaterThan(3);
    expect(unanswered.every(([, question, address]) => question === "renew" && address === own)).toBe(true);
    client.services = launcher();
    client.runUntil(rebindHours * HOUR);
    expect(client.events.at(-1)).toEqual([rebindHours * HOUR, "rebind", own]);
    client.runUntil((rebindHours + 12) * HOUR);
    expect(client.events.at(-1)).toEqual([(rebindHours + 12) * HOUR, "renew", own]);
  });

  it("ends after the day where nobody answers at all, and is the same one afterwards", () => {
    const client = new LeasingClient(ask, launcher());
    client.runUntil(HOUR);
    client.services = null;
    client.runUntil(24 * HOUR - 1);
    expect(client.address).toBe(own);
    client.runUntil(24 * HOUR);
    expect([client.address, client.events.at(-1)]).toEqual(["", [24 * HOUR, "begin", ""]]);
    client.runUntil(25 * HOUR - 1);
    client.services = launcher();
    client.runUntil(25 * HOUR);
    expect(client.events.at(-1)).toEqual([25 * HOUR, "begin", own]);
  });

  it("is of the guest's own address, whatever other it believed to have", () => {
    const client = new LeasingClient(ask, launcher(), foreign);
    client.runUntil(60);
    expect(client.events.every(([, , address]) => address === own || address === "")).toBe(true);
    expect(client.address).toBe(own);
  });
});
