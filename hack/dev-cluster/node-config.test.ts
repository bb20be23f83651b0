import { describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import { renderKubeProxyConfig } from "./control-plane.ts";
import { addresses, nodeIdentity } from "./layout.ts";
import {
  kubeletArguments,
  renderCniConfig,
  renderContainerdConfig,
  renderKubeletConfig,
  renderResolvConf,
} from "./node-config.ts";
import { pauseImage } from "./node-images/images.ts";

const node = nodeIdentity(2);

describe("the files of a node", () => {
  it("let only the API server and authorised users talk to the kubelet", () => {
    const config = parse(renderKubeletConfig({ cgroupRoot: "/typevisor-x" }));
    expect(config.authentication.anonymous.enabled).toBe(false);
    expect(config.authentication.webhook.enabled).toBe(true);
    expect(config.authorization.mode).toBe("Webhook");
    expect(config.readOnlyPort ?? 0).toBe(0);
  });

  it("keep pods in the cluster's own cgroup and the machine's kernel settings as they are", () => {
    const config = parse(renderKubeletConfig({ cgroupRoot: "/typevisor-x" }));
    expect(config).toMatchObject({ cgroupRoot: "/typevisor-x", cgroupDriver: "cgroupfs", protectKernelDefaults: true });
  });

  it("give each node its own pod range, and hide no pod behind its node", () => {
    const config = JSON.parse(renderCniConfig(node));
    expect(config.plugins[0].ipam.ranges).toEqual([[{ subnet: "10.244.2.0/24" }]]);
    expect(config.plugins[0].ipMasq).toBe(false);
    expect(renderCniConfig(nodeIdentity(1))).not.toBe(renderCniConfig(node));
  });

  it("name the node and its address to the kubelet", () => {
    expect(kubeletArguments(node)).toEqual(
      expect.arrayContaining(["--hostname-override=node2", "--node-ip=172.30.0.12"]),
    );
  });

  it("point containerd to the image that holds a pod's namespaces", () => {
    const toml = renderContainerdConfig({ restrictOomScoreAdj: true });
    expect(toml).toContain(`sandbox = "${pauseImage}"`);
    expect(toml).toContain("restrict_oom_score_adj = true");
    expect(renderContainerdConfig({ restrictOomScoreAdj: false })).toContain("restrict_oom_score_adj = false");
  });

  it("point pods to the cluster's resolver, not the machine's", () => {
    expect(renderResolvConf()).toBe(`nameserver ${addresses.dnsService}\n`);
  });

  it("leave the machine's connection tracking alone", () => {
    const config = parse(renderKubeProxyConfig("/k", "node2"));
    expect(config).toMatchObject({ mode: "nftables", hostnameOverride: "node2", conntrack: { maxPerCore: 0, min: 0 } });
  });
});
