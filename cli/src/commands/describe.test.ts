import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import { golden, TestCli } from "../testing/cli.ts";
import { condition, launcherPod, machine, POD_UID } from "../testing/fixtures.ts";

const eventful = machine("web", {
  spec: {
    boot: { kernel: { image: { reference: "x" }, path: "/boot/vmlinuz" } },
    disks: [
      { name: "root", image: { reference: "debian" } },
      { name: "data", persistentVolumeClaim: { claimName: "web-data" } },
      { name: "new", emptyDisk: { size: "1Gi" } },
    ],
    interfaces: [{ name: "default", masquerade: {} }],
  },
  status: {
    conditions: [
      condition("Ready", "True", "Running", "The guest runs"),
      condition("RestartRequired", "True", "SpecChanged", "Changed since the machine was started: spec.disks"),
    ],
    reboots: 2,
    volumes: [
      { name: "root", source: "image", size: "2Gi" },
      {
        name: "data",
        source: "persistentVolumeClaim",
        claimName: "web-data",
        volumeMode: "Block",
        phase: "Bound",
        size: "10Gi",
      },
    ],
    interfaces: [{ name: "default", mac: "02:00:00:00:00:01", ipAddresses: ["10.244.0.12", "fd00::12"] }],
    overhead: { memory: "17Mi" },
    lastTermination: {
      reason: "GuestTripleFault",
      message: "The guest's processor shut down",
      exitCode: 80,
      startedAt: "2026-03-01T11:00:00Z",
      finishedAt: "2026-03-01T11:29:50Z",
    },
    lastMigration: {
      name: "drain-web-1",
      phase: "Succeeded",
      source: { node: "node-2", podName: "vm2-web" },
      target: { node: "node-1", podName: "vm-web" },
      completedAt: "2026-03-01T11:50:00Z",
      downtimeMilliseconds: 21.4,
      message: "The machine has moved from node node-2 to node node-1",
    },
  },
});

function event(uid: string, kind: string, at: string, reason: string, message: string, count = 1): KubernetesObject {
  const involvedObject = { kind, uid };
  return {
    metadata: { name: `e-${reason}-${at}`, namespace: "team-a" },
    ...{ involvedObject, type: "Normal", reason, message, lastTimestamp: at, count },
  } as KubernetesObject;
}

describe("kubectl vm describe", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
    cli.api.intercept = ({ plural, query }) => {
      // The fake knows no field selector but metadata.name.
      if (plural !== "events") return undefined;
      const uid = query.get("fieldSelector")?.split("=")[1];
      const items = cli.api.all("events").filter((each) => (each["involvedObject"] as { uid: string }).uid === uid);
      return { kind: "text", text: JSON.stringify({ items }) };
    };
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  const prepare = () => {
    cli.api.write("virtualmachines", eventful);
    cli.api.write("pods", launcherPod());
    cli.api.write("nodes", {
      metadata: { name: "node-1" },
      spec: { unschedulable: true },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    } as KubernetesObject);
    cli.api.write("events", event(POD_UID, "Pod", "2026-03-01T11:59:00Z", "Pulled", "Image is\nthere", 3));
    cli.api.write(
      "events",
      event(eventful.metadata.uid ?? "", "VirtualMachine", "2026-03-01T11:30:00Z", "PodCreated", "Made"),
    );
    cli.api.write("events", event("other", "Pod", "2026-03-01T11:30:00Z", "Alien", "Not of this machine"));
  };

  it("tells the whole story on one screen", async () => {
    prepare();
    const { code, stdout } = await cli.run("describe", "web");
    expect(code).toBe(0);
    expect(stdout).toBe(golden("describe.golden.txt", stdout));
  });

  it("tells more of it with -o wide: all events, and what ties it to other records", async () => {
    prepare();
    for (let i = 0; i < 20; i++)
      cli.api.write("events", event(POD_UID, "Pod", "2026-03-01T11:40:00Z", `Repeated${i}`, "Again"));
    const { stdout } = await cli.run("describe", "web");
    expect(stdout).toContain("(7 older ones are shown by -o wide)");
    expect(stdout).not.toContain("Pod UID");
    const wide = (await cli.run("describe", "web", "-o", "wide")).stdout;
    expect(wide.match(/Repeated\d+/g)).toHaveLength(20);
    expect(wide).toMatch(new RegExp(`Pod UID: +${POD_UID}`));
    expect(wide).toMatch(/Labels: +app=web\n/);
    expect(wide).not.toContain("older ones");
  });

  it("gives programs all of it", async () => {
    prepare();
    const story = JSON.parse((await cli.run("describe", "web", "-o", "json")).stdout);
    expect(story).toMatchObject({
      machine: { metadata: { name: "web" } },
      pod: { metadata: { name: "vm-web" } },
      events: [{}, {}],
    });
    expect(parse((await cli.run("describe", "web", "-o", "yaml")).stdout)).toEqual(story);
  });

  it("tells of a machine that no operator has seen", async () => {
    cli.api.write("virtualmachines", { ...machine(), status: undefined } as never);
    const { code, stdout } = await cli.run("describe", "web");
    expect(code).toBe(0);
    expect(stdout).toContain("no operator has looked at it");
  });

  it("tells where a machine is moving, and why the last migration came to nothing", async () => {
    const status = {
      migration: { name: "again", phase: "Preparing", source: { node: "node-1", podName: "vm-web" } },
      lastMigration: { name: "first", phase: "Failed", source: { node: "node-1" }, message: "No node has room" },
    };
    cli.api.write("virtualmachines", machine("web", { status }));
    const { stdout } = await cli.run("describe", "web");
    expect(stdout).toMatch(/Moving:\n {2}Migration: +again Preparing\n.*\n {2}To: +not chosen yet \(\?\)\n/);
    expect(stdout).toMatch(/Last migration:\n {2}Migration: +first Failed\n.* {2}Message: +No node has room\n/s);
    expect(stdout).not.toContain("Stood still");
  });

  it("says that the spec has changed since the operator looked", async () => {
    cli.api.write("virtualmachines", machine("web", { metadata: { generation: 2 } }));
    expect((await cli.run("describe", "web")).stdout).toContain("has not seen the last change");
  });

  it("does not show another machine's pod of the name", async () => {
    cli.api.write("virtualmachines", machine("web", { metadata: { uid: "another" } }));
    cli.api.write("pods", launcherPod());
    expect((await cli.run("describe", "web")).stdout).not.toContain("launcher running");
  });

  it("shows what may be seen where rights are missing, and says what is not", async () => {
    prepare();
    cli.api.intercept = ({ plural }) =>
      plural === "nodes" || plural === "events"
        ? { kind: "answer", status: { code: 403, reason: "Forbidden", message: "no" } }
        : undefined;
    const { code, stdout } = await cli.run("describe", "web");
    expect(code).toBe(0);
    expect(stdout).toContain("Not shown: its node: you lack the right to read it");
    expect(stdout).toContain("Not shown: events: you lack the right to read it");
  });
});
