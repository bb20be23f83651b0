import { collectDefaultMetrics, Gauge, type Registry } from "prom-client";
import { buildInfo } from "../runtime/build-info.ts";
import { AgentMetrics } from "./agent/agent-metrics.ts";

/** The device plugin as gauges see it. */
export interface PluginFacts {
  readonly deviceCount: number;
  readonly isRegistered: () => boolean;
}

export interface NodeMetrics {
  readonly agent: AgentMetrics;
  readonly kvmUsable: (usable: boolean) => void;
  readonly watchPlugin: (facts: PluginFacts) => void;
  /** `isThere` is asked at each scrape. */
  readonly watchVhostNet: (isThere: () => boolean) => void;
}

/** All that /metrics of a node agent tells; docs/metrics.md is generated from it. */
export function nodeMetrics(registry: Registry, version: string): NodeMetrics {
  collectDefaultMetrics({ register: registry });
  buildInfo(registry, "node", version);
  let plugin: PluginFacts | undefined;
  let hasVhostNet: (() => boolean) | undefined;
  const registers = [registry];
  const usable = new Gauge({
    name: "typevisor_node_kvm_usable",
    help: "1 while KVM can be used on this node.",
    registers,
  });
  new Gauge({
    name: "typevisor_node_vhost_net_usable",
    help: "1 while the kernel can carry the frames of machines on this node (vhost-net); without, launchers do, at a higher price.",
    registers,
    collect() {
      this.set(hasVhostNet?.() === true ? 1 : 0);
    },
  });
  new Gauge({
    name: "typevisor_device_plugin_registered",
    help: "1 while the kubelet knows the device plugin: without, no machine can start on the node.",
    registers,
    collect() {
      this.set(plugin?.isRegistered() === true ? 1 : 0);
    },
  });
  new Gauge({
    name: "typevisor_device_plugin_devices",
    help: "Devices that the plugin offers: as many machines as the node can hold at most.",
    registers,
    collect() {
      this.set(plugin?.deviceCount ?? 0);
    },
  });
  return {
    agent: new AgentMetrics(registry),
    kvmUsable: (isUsable) => usable.set(isUsable ? 1 : 0),
    watchPlugin: (facts) => {
      plugin = facts;
    },
    watchVhostNet: (isThere) => {
      hasVhostNet = isThere;
    },
  };
}
