import { describe, expect, it } from "@jest/globals";
import { Registry } from "prom-client";
import { nodeMetrics } from "./metrics.ts";

describe("the metrics of a node agent", () => {
  it("tell whether machines can start on the node", async () => {
    const registry = new Registry();
    const metrics = nodeMetrics(registry, "1.2.3");
    const samples = async () =>
      (await registry.metrics()).split("\n").filter((line) => /^typevisor_(node|device|build)/.test(line));
    expect(await samples()).toContain("typevisor_device_plugin_registered 0");
    metrics.kvmUsable(true);
    metrics.watchPlugin({ deviceCount: 7, isRegistered: () => true });
    metrics.watchVhostNet(() => true);
    expect(await samples()).toEqual([
      'typevisor_build_info{component="node",version="1.2.3"} 1',
      "typevisor_node_kvm_usable 1",
      "typevisor_node_vhost_net_usable 1",
      "typevisor_device_plugin_registered 1",
      "typevisor_device_plugin_devices 7",
    ]);
  });
});
