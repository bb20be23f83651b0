import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { MachineState } from "../../api/control.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { GuestConsole } from "./console/guest-console.ts";
import { closeServer } from "./http-limits.ts";
import { LauncherApi } from "./launcher-api.ts";
import { LoopLag } from "./loop-lag.ts";
import { controlMetrics, machineMetrics, processMetrics } from "./machine-metrics.ts";
import { listenForTelemetry } from "./telemetry-listener.ts";
import { FakeMachine } from "./testing/fake-machine.ts";

let server: Server;
let machine: FakeMachine;
let lag: LoopLag;

beforeEach(async () => {
  machine = new FakeMachine();
  lag = new LoopLag().start();
  const guestConsole = new GuestConsole(0);
  guestConsole.serial.output(Buffer.from("hello"));
  const api = new LauncherApi({ machine, console: guestConsole, log: recordingLog().log });
  api.requests.set("GET /v1/status 200", 4);
  const sources = [machineMetrics(machine), processMetrics(lag), controlMetrics(guestConsole, api)];
  const labels = { namespace: "shop", name: "web" };
  server = await listenForTelemetry({ machine, sources, labels }, { address: "127.0.0.1", port: 0 });
});

afterEach(async () => {
  lag[Symbol.dispose]();
  await closeServer(server, 0);
});

const get = (path: string, method = "GET") =>
  fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, { method });

describe("telemetry", () => {
  it.each<[MachineState, number]>([
    ["Starting", 503],
    ["Running", 200],
    ["Paused", 503],
    ["Stopping", 200],
    ["Ended", 503],
  ])("calls a machine that is %s ready by status %d, and always healthy", async (state, status) => {
    machine.state = state;
    const ready = await get("/readyz");
    expect(ready.status).toBe(status);
    if (status === 503) expect(await ready.text()).toBe(`the machine is ${state}: the guest runs\n`);
    expect((await get("/healthz")).status).toBe(200);
  });

  it("does not call a guest ready whose kernel panicked", async () => {
    machine.guestPanicked = true;
    const ready = await get("/readyz");
    expect([ready.status, await ready.text()]).toEqual([503, "the guest's kernel has panicked\n"]);
    expect((await get("/healthz")).status).toBe(200);
  });

  it("does not call a guest ready that has just rebooted, as often as a kubelet must hear it", async () => {
    const answers = async (times: number) => {
      const statuses: number[] = [];
      for (let time = 0; time < times; time++) statuses.push((await get("/readyz")).status);
      return statuses;
    };
    expect(await answers(1)).toEqual([200]);
    machine.reboots = 1;
    expect(await answers(3)).toEqual([503, 503, 200]);
    machine.reboots = 5;
    expect(await answers(1)).toEqual([503]);
    expect((await get("/healthz")).status).toBe(200);
  });

  it("takes reads of known paths only", async () => {
    expect((await get("/v1/status")).status).toBe(404);
    expect((await get("/metrics", "POST")).status).toBe(405);
    const head = await get("/healthz", "HEAD");
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });

  it("shows the machine, the process and the control plane in Prometheus text", async () => {
    machine.reboots = 3;
    const response = await get("/metrics");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const text = await response.text();
    const who = 'namespace="shop",name="web"';
    for (const line of [
      `typevisor_vm_state{${who},state="Running"} 1`,
      `typevisor_vm_state{${who},state="Ended"} 0`,
      `typevisor_vm_start_time_seconds{${who}} 1767323045.678`,
      `typevisor_vm_reboots_total{${who}} 3`,
      `typevisor_vm_io_engine_info{${who},engine="threads"} 1`,
      `typevisor_vm_exits_total{${who},kind="io:\\"0x3f8\\""} 7`,
      `typevisor_vm_polling_seconds_total{${who}} 0.25`,
      `typevisor_vm_milestone_seconds{${who},step="running"} 0.05`,
      `typevisor_vm_console_output_bytes_total{${who}} 5`,
      `typevisor_launcher_api_requests_total{${who},method="GET",path="/v1/status",code="200"} 4`,
    ])
      expect(text).toContain(`\n${line}\n`);
    expect(text).toMatch(/\ntypevisor_vm_cpu_usage_seconds_total\{[^}]*\} \d/);
    for (const line of text.trimEnd().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\]|\\.)*",?)*\})? -?[0-9.e+-]+)$/);
  });

  it("leaves out the start time of a machine that has not started", async () => {
    machine.state = "Starting";
    expect(await (await get("/metrics")).text()).not.toContain("typevisor_vm_start_time_seconds");
  });

  it("measures how late the event loop is", async () => {
    await until(() => lag.totals.count > 0);
    const blockedUntil = performance.now() + 700;
    while (performance.now() < blockedUntil);
    const { count } = lag.totals;
    await until(() => lag.totals.count > count);
    expect(lag.takeMaxMs()).toBeGreaterThan(100);
    expect(lag.takeMaxMs()).toBe(0);
  });
});
