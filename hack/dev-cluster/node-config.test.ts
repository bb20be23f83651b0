import { describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import { renderKubeProxyConfig } from "./control-plane.ts";
import { type IpFamilies, nodeIdentity } from "./layout.ts";
import {
  kubeletArguments,
  renderCniConfig,
  renderContainerdConfig,
  renderKubeletConfig,
  renderResolvConf,
} from "./node-config.ts";
import { pauseImage } from "./node-images/images.ts";

const node = nodeIdentity(2);
const families: IpFamilies = ["IPv4", "IPv6"];

describe("the files of a node", () => {
  it("let only the API server and authorised users talk to the kubelet", () => {
    const config = parse(renderKubeletConfig({ cgroupRoot: "/typevisor-x", families }));
    expect(config.authentication.anonymous.enabled).toBe(false);
    expect(config.authentication.webhook.enabled).toBe(true);
    expect(config.authorization.mode).toBe("Webhook");
    expect(config.readOnlyPort ?? 0).toBe(0);
  });

  it("keep pods in the cluster's own cgroup and the machine's kernel settings as they are", () => {
    const config = parse(renderKubeletConfig({ cgroupRoot: "/typevisor-x", families }));
    expect(config).toMatchObject({ cgroupRoot: "/typevisor-x", cgroupDriver: "cgroupfs", protectKernelDefaults: true });
  });

  it("give each node its own pod range, and hide no pod behind its node", () => {
    const config = JSON.parse(renderCniConfig(node, families));
    expect(config.plugins[0].ipam.ranges).toEqual([[{ subnet: "10.244.2.0/24" }], [{ subnet: "fd00:10:244:2::/64" }]]);
    expect(config.plugins[0].ipMasq).toBe(false);
    expect(renderCniConfig(nodeIdentity(1), families)).not.toBe(renderCniConfig(node, families));
  });

  it("name the node and its addresses to the kubelet, those of the first family first", () => {
    expect(kubeletArguments(node, families)).toEqual(
      expect.arrayContaining(["--hostname-override=node2", "--node-ip=172.30.0.12,fd00:30::12"]),
    );
    expect(kubeletArguments(node, ["IPv6", "IPv4"])).toContain("--node-ip=fd00:30::12,172.30.0.12");
  });

  it("know nothing of a family that the cluster does without", () => {
    const files = [
      renderCniConfig(node, ["IPv6"]),
      renderResolvConf(["IPv6"]),
      renderKubeletConfig({ cgroupRoot: "/", families: ["IPv6"] }),
      renderKubeProxyConfig("/k", "node2", ["IPv6"]),
    ].join("\n");
    expect(files).toContain("fd00:10:96::a");
    expect(files).not.toMatch(/10\.96\.|10\.244\./);
  });

  it("point containerd to the image that holds a pod's namespaces", () => {
    const toml = renderContainerdConfig({ restrictOomScoreAdj: true, cniBinDir: "/built" });
    expect(toml).toContain(`sandbox = "${pauseImage}"`);
    expect(toml).toContain("restrict_oom_score_adj = true");
    expect(toml).toContain('bin_dirs = ["/opt/cni/bin", "/built", "/usr/lib/cni"]');
    expect(renderContainerdConfig({ restrictOomScoreAdj: false, cniBinDir: "/built" })).toContain(
      "restrict_oom_score_adj = false",
    );
  });

  it("point pods to the cluster's resolver, not the machine's", () => {
    expect(renderResolvConf(families)).toBe("nameserver 10.96.0.10\nnameserver fd00:10:96::a\n");
  });

  it("leave the machine's connection tracking alone", () => {
    const config = parse(renderKubeProxyConfig("/k", "node2", families));
    expect(config).toMatchObject({ mode: "nftables", hostnameOverride: "node2", conntrack: { maxPerCore: 0, min: 0 } });
  });
});
