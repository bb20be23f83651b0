import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { ipv6Bytes } from "./addresses.ts";
import { Advertiser } from "./advertiser.ts";
import { LinkServices } from "./link-services.ts";
import { AdvertisedGuest } from "./testing/advertised-guest.ts";
import { network } from "./testing/guest.ts";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const hex = (address: string) => Buffer.from(ipv6Bytes(address)).toString("hex");
const ipv6 = {
  address: "fd10:0:2::2",
  prefixLength: 120,
  gateway: "fe80::1",
  routes: [{ destination: "2001:db8:77::/56", gateway: "fe80::1" }],
};
const services = new LinkServices(network({ ipv6 }));
const forEver = [`on-link ${hex("fd10:0:2::")}/120`];
const all = [
  `default via ${hex("fe80::1")}`,
  ...forEver,
  `route ${hex("2001:db8:77::")}/56`,
  `dns ${hex("fd00:10:96::a")}`,
  "search .default.svc.cluster.local.svc.cluster.local.cluster.local.",
];

let open: DisposableStack;
let guest: AdvertisedGuest;
let sentAt: number[];
let isHeard: (index: number) => boolean;
const nowSeconds = () => Date.now() / 1000;
const advance = (seconds: number) => void jest.advanceTimersByTime(seconds * 1000);
/** As each launcher has one. */
const advertiser = () =>
  open.use(
    new Advertiser(() => {
      const frame = services.advertisement();
      if (frame && isHeard(sentAt.push(nowSeconds()) - 1)) guest.hear(frame, nowSeconds());
    }),
  );
/** What the guest has believed at every minute until then. */
function expectAllFor(seconds: number) {
  for (let at = 0; at < seconds; at += MINUTE) {
    advance(MINUTE);
    expect(guest.believes(nowSeconds())).toEqual(all);
  }
}

beforeEach(() => {
  jest.useFakeTimers({ now: 0 });
  open = new DisposableStack();
  guest = new AdvertisedGuest();
  sentAt = [];
  isHeard = () => true;
});
afterEach(() => {
  open[Symbol.dispose]();
  jest.useRealTimers();
});

describe("what router advertisements said to a guest that never asks", () => {
  it("is true for a week, and not said more often than every 5 minutes", () => {
    advertiser().start();
    expectAllFor(7 * 24 * HOUR);
    expect(sentAt.length).toBeLessThanOrEqual(3 + (7 * 24 * HOUR) / (5 * MINUTE));
  });

  it("is true where only one of 29 arrives", () => {
    isHeard = (index) => index % 29 === 0;
    advertiser().start();
    expectAllFor(24 * HOUR);
  });

  it("is said at once, twice more within the minute, and no more once the interface is gone", () => {
    const gone = advertiser();
    advance(7);
    gone.start();
    advance(MINUTE);
    expect(sentAt).toEqual([7, 23, 39]);
    gone[Symbol.dispose]();
    advance(HOUR);
    expect(sentAt).toHaveLength(3);
  });

  it("is said to a guest of which nobody noticed that it listens", () => {
    advertiser();
    advance(5 * MINUTE);
    expect(guest.believes(nowSeconds())).toEqual(all);
  });

  it("ends 2.5 hours after its launcher did, but for what is on the link, and is true again with another launcher", () => {
    const first = advertiser();
    first.start();
    advance(MINUTE);
    first[Symbol.dispose]();
    const saidAt = sentAt.at(-1) ?? 0;
    advance(saidAt + 2.5 * HOUR - nowSeconds() - 1);
    expect(guest.believes(nowSeconds())).toEqual(all);
    advance(1);
    expect(guest.believes(nowSeconds())).toEqual(forEver);
    advertiser().start();
    expect(guest.believes(nowSeconds())).toEqual(all);
  });

  it("is true for a guest that comes to another launcher every minute", () => {
    let last = advertiser();
    last.start();
    for (let i = 0; i < 200; i++) {
      expectAllFor(MINUTE);
      last[Symbol.dispose]();
      last = advertiser();
      last.start();
    }
  });
});
