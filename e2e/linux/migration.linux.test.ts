import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import { type Seen, wrong } from "../../hack/migrations/load.ts";
import { MovingMachine, type StreamState } from "./moving-machine.ts";

const MOVES = 2;

// Between nodes of a cluster, and a hundred times: hack/migrations.
describe("a Debian under load that moves", () => {
  let lab: LinuxLab;
  let machine: MovingMachine;
  let before: Seen;
  let stream: StreamState;

  beforeAll(async () => {
    lab = await openLab();
    machine = await MovingMachine.boot(lab);
    before = await machine.seen();
    stream = await machine.stream();
  }, 900_000);
  afterAll(() => machine?.[Symbol.asyncDispose]());

  it.each(Array.from({ length: MOVES }, (_, move) => move + 1))("notices nothing of move %d", async () => {
    const result = await machine.move();
    expect(result.sentBytes).toBeGreaterThan(0);
    // What its image does not have of its root.
    expect(result.diskSentBytes).toBeGreaterThan(0);
    const now = await machine.seen();
    // An emulated node stands still now and then, and its guests' kernels complain of that.
    expect(wrong(before, now, { judgesWarnings: lab.kind === "host" })).toEqual([]);
    const streamNow = await machine.stream();
    expect(streamNow).toMatchObject({ connections: 1, wrong: 0 });
    expect(streamNow.echoed).toBeGreaterThan(stream.echoed);
    [before, stream] = [now, streamNow];
  });

  it("has its frames carried as before, and its disks as they were", async () => {
    const [link] = (await machine.guest.launcher.status()).interfaces ?? [];
    const hasVhost = (await lab.run("test -c /dev/vhost-net && echo yes || true")) !== "";
    expect(link?.dataPath).toBe(hasVhost ? "vhost-net" : "inProcess");
    const { console } = machine.guest;
    expect(await console.shell("dmesg | grep -ciE 'EXT4-fs (error|warning)|I/O error' || true", 180_000)).toBe("0");
    expect(await console.shell("cat /root/load.log /root/echo.log")).toBe("");
  });
});
