import { existsSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, jest } from "@jest/globals";
import { until } from "../../../../launcher/src/testing/until.ts";
import type { Logger } from "../../runtime/logger.ts";
import { FakeKubelet } from "../testing/fake-kubelet.ts";
import { DevicePlugin } from "./device-plugin.ts";
import { loadDevicePluginProtocol } from "./protocol.ts";

jest.setTimeout(30_000);

const protocol = loadDevicePluginProtocol();
const agentDirectory = "/run/typevisor/agent";

function pluginAt(directory: string, { healthy = true, deviceCount = 3, lines = [] as string[] } = {}): DevicePlugin {
  const log = (_fields: object, message: string) => void lines.push(message);
  const logger: Logger = { debug: log, info: log, warn: log, error: log };
  const plugin = new DevicePlugin(
    { protocol, directory, offer: { deviceCount, agentDirectory }, log: logger },
    healthy,
  );
  plugin.start();
  return plugin;
}

describe("the device plugin", () => {
  it("registers and offers its devices", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using plugin = pluginAt(kubelet.directory);
    await until(() => kubelet.devices !== undefined);
    expect(kubelet.registrations).toEqual([
      {
        version: "v1beta1",
        endpoint: "typevisor-kvm.sock",
        resource_name: "devices.typevisor.io/kvm",
        options: expect.anything(),
      },
    ]);
    expect(kubelet.devices?.map(({ ID, health }) => `${ID} ${health}`)).toEqual([
      "kvm-0 Healthy",
      "kvm-1 Healthy",
      "kvm-2 Healthy",
    ]);
    await until(() => plugin.registered);
    expect(await kubelet.pluginOptions()).toEqual({
      pre_start_required: false,
      get_preferred_allocation_available: false,
    });
  });

  it("answers Allocate with the agent's directory and nothing else, for each container", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using _plugin = pluginAt(kubelet.directory);
    await until(() => kubelet.devices !== undefined);
    const mounts = [{ container_path: "/run/typevisor/agent", host_path: agentDirectory, read_only: true }];
    expect(await kubelet.allocate(["kvm-0"], ["kvm-1", "kvm-2"])).toEqual({
      container_responses: [{ mounts }, { mounts }],
    });
  });

  it("offers 20,000 devices in one message", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using _plugin = pluginAt(kubelet.directory, { deviceCount: 20_000 });
    await until(() => kubelet.devices?.length === 20_000);
  });

  it("tells at once when the node's health changes", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using plugin = pluginAt(kubelet.directory, { healthy: false });
    const health = () => new Set(kubelet.devices?.map((device) => device.health));
    await until(() => health().has("Unhealthy"));
    plugin.setHealthy(true);
    await until(() => health().has("Healthy"));
    expect(health()).toEqual(new Set(["Healthy"]));
  });

  it("registers anew with a kubelet that restarted and removed all sockets", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using _plugin = pluginAt(kubelet.directory);
    await until(() => kubelet.devices !== undefined);
    for (let restarts = 1; restarts <= 2; restarts++) {
      await kubelet.stop();
      await kubelet.start();
      await until(() => kubelet.registrations.length === restarts + 1 && kubelet.devices !== undefined);
    }
    expect((await kubelet.allocate(["kvm-0"])).container_responses).toHaveLength(1);
  });

  it("registers anew when only its socket was removed, or its watch ended", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using plugin = pluginAt(kubelet.directory);
    await until(() => plugin.registered);
    rmSync(join(kubelet.directory, "typevisor-kvm.sock"));
    await until(() => kubelet.registrations.length === 2 && plugin.registered);
    kubelet.dropPlugin();
    await until(() => kubelet.registrations.length === 3);
  });

  it("waits for a kubelet that is not there yet", async () => {
    await using kubelet = new FakeKubelet();
    await using plugin = pluginAt(kubelet.directory);
    expect(plugin.registered).toBe(false);
    await kubelet.start();
    await until(() => plugin.registered);
  });

  it("tries again, and says so, when the kubelet refuses it or its socket is dead", async () => {
    const lines: string[] = [];
    await using kubelet = await new FakeKubelet().start();
    kubelet.refusal = Object.assign(new Error("not now"), { code: 14 });
    await using plugin = pluginAt(kubelet.directory, { lines });
    await until(() => lines.includes("kubelet cannot be reached"));
    expect(plugin.registered).toBe(false);
    kubelet.refusal = undefined;
    await until(() => plugin.registered);
  });

  it("is not misled by other plugins in the directory", async () => {
    await using kubelet = await new FakeKubelet().start();
    await using plugin = pluginAt(kubelet.directory);
    await until(() => plugin.registered);
    const other = createServer().listen(join(kubelet.directory, "other.sock"));
    writeFileSync(join(kubelet.directory, "kubelet_internal_checkpoint"), "{}");
    await until(() => existsSync(join(kubelet.directory, "other.sock")));
    plugin.setHealthy(false);
    await until(() => kubelet.devices?.[0]?.health === "Unhealthy");
    expect(kubelet.registrations).toHaveLength(1);
    other.close();
  });

  it("leaves nothing behind when it stops", async () => {
    await using kubelet = await new FakeKubelet().start();
    const plugin = pluginAt(kubelet.directory);
    await until(() => plugin.registered);
    await plugin[Symbol.asyncDispose]();
    expect(existsSync(join(kubelet.directory, "typevisor-kvm.sock"))).toBe(false);
    await kubelet.stop();
    await kubelet.start();
    expect(kubelet.registrations).toHaveLength(1);
  });

  it("survives a directory that is not there", async () => {
    const lines: string[] = [];
    await using _plugin = pluginAt("/nowhere/device-plugins", { lines });
    await until(() => lines.includes("kubelet cannot be reached"));
  });
});
