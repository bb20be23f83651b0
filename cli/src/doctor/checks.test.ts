import { describe, expect, it } from "@jest/globals";
import { report } from "../commands/doctor.ts";
import { exitCodes } from "../exit-codes.ts";
import { golden, TestCli } from "../testing/cli.ts";
import { condition, machine } from "../testing/fixtures.ts";
import { diagnose, type Verdict } from "./checks.ts";
import { details } from "./details.ts";
import type { ClusterFacts } from "./facts.ts";

const labels = { "app.kubernetes.io/version": "0.1.0" };
const componentOfNode = { "app.kubernetes.io/part-of": "typevisor", "app.kubernetes.io/component": "node" };
const nodeInfo = { kubeletVersion: "v1.37.2", containerRuntimeVersion: "containerd://2.4.2" };

function node(name: string, kvm: string | undefined, info = nodeInfo): never {
  const allocatable = { cpu: "2", ...(kvm === undefined ? {} : { "devices.typevisor.io/kvm": kvm }) };
  return { metadata: { name }, status: { allocatable, nodeInfo: info } } as never;
}

function workload(name: string, status: object, args: string[] = []): never {
  const metadata = { name, namespace: "typevisor-system", labels };
  return { metadata, spec: { replicas: 2, template: { spec: { containers: [{ name, args }] } } }, status } as never;
}

const agent = (ready: number, args: string[] = []) =>
  workload("typevisor-node", { desiredNumberScheduled: 2, numberReady: ready }, args);
const operator = (available: number, args: string[] = []) =>
  workload("typevisor-operator", { availableReplicas: available }, args);
const namespace = (enforce: string): never =>
  ({ metadata: { name: "typevisor-system", labels: { "pod-security.kubernetes.io/enforce": enforce } } }) as never;
const storageClass = (name: string, isDefault: boolean): never =>
  ({
    metadata: { name, annotations: { "storageclass.kubernetes.io/is-default-class": `${isDefault}` } },
    provisioner: `csi.of.${name}`,
  }) as never;

const volume = (storageClassName: string, mode: string, volumeMode = "Filesystem"): never =>
  ({ metadata: { name: "pv" }, spec: { storageClassName, accessModes: [mode], volumeMode } }) as never;

const healthy: ClusterFacts = {
  serverVersion: "v1.37.2",
  definition: {
    metadata: { labels },
    spec: { versions: [{ name: "v1alpha1", served: true }] },
    status: { conditions: [{ type: "Established", status: "True" }] },
  },
  nodes: [node("node-1", "1k"), node("control-plane", undefined)],
  operators: [operator(2)],
  agents: [agent(2)],
  agentPods: [],
  namespaces: [namespace("privileged")],
  storageClasses: [storageClass("fast", true)],
  volumes: [volume("fast", "ReadWriteMany")],
  vhostNet: new Map([["node-1", true]]),
  machines: [machine()],
};

const find = (facts: Partial<ClusterFacts>, check: string, version = "0.1.0") =>
  diagnose({ ...healthy, ...facts }, version).find((finding) => finding.check === check);

describe("kubectl vm doctor", () => {
  it("finds nothing where all is well", () => {
    expect(diagnose(healthy, "0.1.0").filter(({ verdict }) => verdict !== "ok")).toEqual([]);
  });

  const table: [check: string, facts: Partial<ClusterFacts>, verdict: Verdict, message: RegExp][] = [
    ["Kubernetes version", { serverVersion: "v1.32.9" }, "fail", /too old/],
    ["Kubernetes version", { serverVersion: "v1.33.0" }, "ok", /1\.33/],
    ["API installed", { definition: undefined }, "fail", /no CustomResourceDefinition/],
    ["API installed", { definition: { ...healthy.definition, status: { conditions: [] } } }, "fail", /not established/],
    ["API installed", { definition: { unreadable: "no right" } }, "unknown", /no right/],
    ["Operator", { operators: [] }, "fail", /no operator/],
    ["Operator", { operators: [operator(0)] }, "fail", /no replica/],
    ["Operator", { operators: [operator(1), operator(1)] }, "warn", /there are 2/],
    [
      "Versions",
      { definition: { ...healthy.definition, metadata: { labels: { "app.kubernetes.io/version": "0.0.9" } } } },
      "warn",
      /of 0\.0\.9, the operator of 0\.1\.0/,
    ],
    [
      "Versions",
      { machines: [machine("old", { status: { launcherVersion: "0.0.9" } })] },
      "warn",
      /1 machines run in a launcher of another version.*team-a\/old/,
    ],
    ["Node agents", { agents: [] }, "fail", /no node agent/],
    ["Node agents", { agents: [agent(0)] }, "fail", /0 of 2/],
    [
      "Node agents",
      { agents: [agent(1)], agentPods: [{ spec: { nodeName: "node-2", containers: [] } }] },
      "warn",
      /1 of 2 are ready; not on node-2/,
    ],
    ["KVM", { nodes: [node("a", "0"), node("b", undefined)] }, "fail", /no node offers/],
    ["KVM", { nodes: [node("a", "1000"), node("b", "0")] }, "warn", /these cannot: b/],
    ["vhost-net", { vhostNet: new Map() }, "unknown", /no node agent says/],
    ["vhost-net", { vhostNet: { unreadable: "no right" } }, "unknown", /no right/],
    [
      "vhost-net",
      {
        vhostNet: new Map([
          ["a", true],
          ["b", false],
        ]),
      },
      "warn",
      /^not on b$/,
    ],
    ["Shared storage", { volumes: [volume("fast", "ReadWriteOnce")] }, "warn", /two nodes can have/],
    ["Shared storage", { volumes: [volume("other", "ReadWriteMany")] }, "warn", /two nodes can have/],
    ["Shared storage", { volumes: { unreadable: "no right" } }, "unknown", /no right/],
    [
      "Shared storage",
      { volumes: [], storageClasses: [{ metadata: { name: "rook" }, provisioner: "rook.rbd.csi.ceph.com" }] },
      "ok",
      /^rook: /,
    ],
    [
      "Image volumes",
      { nodes: [node("a", "1", { ...nodeInfo, containerRuntimeVersion: "containerd://1.7.30" })] },
      "warn",
      /a \(kubelet v1\.37\.2, containerd:\/\/1\.7\.30\)/,
    ],
    [
      "Image volumes",
      { nodes: [node("a", "1", { ...nodeInfo, containerRuntimeVersion: "cri-o://1.31.0" })] },
      "ok",
      /can mount/,
    ],
    ["Image volumes", { serverVersion: "v1.34.1" }, "warn", /feature gate/],
    ["Seccomp", { operators: [operator(2, ["--launcher-seccomp=Localhost"])] }, "fail", /do not install/],
    [
      "Seccomp",
      { operators: [operator(2, ["--launcher-seccomp=Localhost"])], agents: [agent(2, ["--seccomp-dir=/x"])] },
      "ok",
      /Localhost/,
    ],
    ["Pod Security", { namespaces: [namespace("restricted")] }, "fail", /enforces restricted/],
    ["Storage classes", { storageClasses: [] }, "warn", /none/],
    ["Storage classes", { storageClasses: [storageClass("a", true), storageClass("b", true)] }, "warn", /2 of a, b/],
    [
      "Machines",
      { machines: [machine("web", { status: { conditions: [condition("Stalled", "True", "ClaimNotFound")] } })] },
      "warn",
      /team-a\/web \(ClaimNotFound\)/,
    ],
  ];
  it.each(table)("%s with %j: %s", (check, facts, verdict, message) => {
    const finding = find(facts, check);
    expect(finding).toMatchObject({ verdict, message: expect.stringMatching(message) });
    expect(finding?.advice === undefined).toBe(verdict === "ok" || verdict === "unknown");
  });

  it("tells of a kubectl-vm of another version, and takes a build between releases for none", () => {
    expect(find({}, "Versions", "0.2.0")?.verdict).toBe("warn");
    expect(find({}, "Versions", "development")?.verdict).toBe("ok");
  });

  it("reports one line for each check, advice below it", () => {
    const facts = { ...healthy, nodes: [node("a", "0")], storageClasses: { unreadable: "no right" } };
    const text = report(diagnose(facts, "0.1.0"), { context: "prod", server: "https://10.0.0.1:6443" });
    expect(text).toBe(golden("doctor.golden.txt", text));
  });

  it("shows nodes and storage classes one by one with -o wide, and leaves out what may not be read", () => {
    const facts = {
      ...healthy,
      volumes: [
        volume("fast", "ReadWriteMany", "Block"),
        volume("fast", "ReadWriteOnce"),
        volume("fast", "ReadWriteOnce"),
      ],
    };
    const text = details(facts);
    expect(text).toMatch(/node-1 +1k +yes +- +v1\.37\.2 +containerd:\/\/2\.4\.2\n/);
    expect(text).toMatch(/control-plane +- +- /);
    expect(text).toMatch(/fast +csi\.of\.fast +Immediate +no +yes +ReadWriteMany Block, ReadWriteOnce Filesystem\n/);
    const unreadable = { unreadable: "no right" };
    expect(details({ ...facts, nodes: unreadable, storageClasses: unreadable })).toBe("");
    expect(details({ ...facts, vhostNet: unreadable, volumes: unreadable })).toMatch(/node-1 +1k +\? /);
  });

  it("asks each node agent whether its node has vhost-net", async () => {
    await using cli = await TestCli.start();
    const agentPod = (name: string, phase = "Running") =>
      ({
        metadata: { name, namespace: "typevisor-system", labels: componentOfNode },
        spec: {
          nodeName: `on-${name}`,
          containers: [{ name: "node", ports: [{ name: "http", containerPort: 8080 }] }],
        },
        status: { phase },
      }) as never;
    for (const name of ["with", "without", "old", "silent"]) cli.api.write("pods", agentPod(name));
    cli.api.write("pods", agentPod("pending", "Pending"));
    const answers: Record<string, string> = {
      with: "typevisor_node_vhost_net_usable 1\n",
      without: "typevisor_node_vhost_net_usable 0\n",
      old: "typevisor_node_kvm_usable 1\n",
    };
    cli.api.intercept = ({ path }) => {
      if (path === "/version") return { kind: "text", text: '{"gitVersion":"v1.37.2"}' };
      const pod = /pods\/(\w+):8080\/proxy\/metrics$/.exec(path)?.[1];
      if (pod === undefined) return undefined;
      const text = answers[pod];
      return text === undefined
        ? { kind: "answer", status: { code: 503, reason: "ServiceUnavailable", message: "no" } }
        : { kind: "text", text };
    };
    const findings = JSON.parse((await cli.run("doctor", "-o", "json")).stdout);
    expect(findings).toContainEqual(
      expect.objectContaining({ check: "vhost-net", verdict: "warn", message: "not on on-without" }),
    );
  });

  it("reads an empty cluster, says what to install, and ends with 7", async () => {
    await using cli = await TestCli.start();
    cli.api.intercept = ({ path }) =>
      path === "/version" ? { kind: "text", text: '{"gitVersion":"v1.37.2"}' } : undefined;
    const { code, stdout } = await cli.run("doctor");
    expect(code).toBe(exitCodes.unhealthy);
    expect(stdout).toContain("helm install typevisor");
    expect(JSON.parse((await cli.run("doctor", "-o", "json")).stdout)).toContainEqual(
      expect.objectContaining({ check: "Operator", verdict: "fail" }),
    );
  });

  it("goes on where rights are missing, and calls that unknown", async () => {
    await using cli = await TestCli.start();
    cli.api.intercept = ({ path }) =>
      path === "/version"
        ? { kind: "text", text: '{"gitVersion":"v1.37.2"}' }
        : { kind: "answer", status: { code: 403, reason: "Forbidden", message: "no" } };
    const { code, stdout } = await cli.run("doctor");
    expect(code).toBe(exitCodes.ok);
    expect(stdout).toContain("you lack the right to list nodes in the whole cluster");
  });
});
