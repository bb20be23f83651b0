import { describe, expect, it } from "@jest/globals";
import { EventFd } from "./eventfd.ts";
import { watchFd } from "./fd-watch.ts";

describe("an eventfd", () => {
  it("is empty until it is signalled, and again once drained", () => {
    using event = new EventFd();
    expect(event.drain()).toBe(false);
    event.signal();
    event.signal();
    expect(event.drain()).toBe(true);
    expect(event.drain()).toBe(false);
  });

  it("wakes who watches it from the event loop, and no one else any more", async () => {
    using event = new EventFd();
    let calls = 0;
    const woken = Promise.withResolvers<void>();
    const watch = watchFd(event.fd, { readable: true }, () => {
      calls++;
      event.drain();
      woken.resolve();
    });
    event.signal();
    expect(calls).toBe(0);
    await woken.promise;
    watch[Symbol.dispose]();
    watch[Symbol.dispose]();
    event.signal();
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(1);
  });

  it("lets promises go on at once that are settled when it is signalled", async () => {
    using event = new EventFd();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
    }, 1000);
    await new Promise<void>((resolve) => {
      const watch = watchFd(event.fd, { readable: true }, () => {
        watch[Symbol.dispose]();
        resolve();
      });
      event.signal();
    });
    clearTimeout(timer);
    expect(late).toBe(false);
  });

  it("is watched for as long as nobody disposes the watch, even if nobody holds it", async () => {
    using event = new EventFd();
    const woken = Promise.withResolvers<void>();
    const watches = [watchFd(event.fd, { readable: true }, () => woken.resolve())];
    globalThis.gc?.();
    event.signal();
    await woken.promise;
    watches.pop()?.[Symbol.dispose]();
  });
});
