import { describe, expect, it } from "@jest/globals";
import { parseCpuFeatures } from "../../../launcher/api/cpu-features.ts";
import { fittingCpuClasses, requiringOfNode, withCpuAffinity } from "./cpu-affinity.ts";
import { CPU_FEATURES_ANNOTATION, cpuClassOf, cpuLabels, describeNode, nodeCpuOf } from "./node-cpu.ts";

const old = "GenuineIntel 1/0/ecx:1 7/0/eax#0";
const middle = "GenuineIntel 1/0/ecx:3 7/0/ebx:20 7/0/eax#1";
const young = "GenuineIntel 1/0/ecx:7 7/0/ebx:10020 7/0/eax#2";
const other = "AuthenticAMD 1/0/ecx:ffffffff 7/0/ebx:ffffffff 7/0/eax#2";

const featuresOf = (text: string) => {
  const features = parseCpuFeatures(text);
  if (features === undefined) throw new Error(text);
  return features;
};
const nodeOf = (text: string) => ({ metadata: { name: "node", ...describeNode(featuresOf(text)) } });
const cluster = [old, middle, young, young, other].map((text) => nodeCpuOf(nodeOf(text)));
const classOf = (text: string) => cpuClassOf(featuresOf(text));

describe("a node", () => {
  it("says in three labels and an annotation what guests are given there", () => {
    expect(describeNode(featuresOf(young))).toEqual({
      labels: {
        [cpuLabels.class]: expect.stringMatching(/^[0-9a-f]{16}$/),
        [cpuLabels.level]: "x86-64-v1",
        [cpuLabels.vendor]: "GenuineIntel",
      },
      annotations: { [CPU_FEATURES_ANNOTATION]: young },
    });
  });

  it("has labels that are valid whatever the maker is called", () => {
    const { labels } = describeNode({ ...featuresOf(young), vendor: "  <Shang.." });
    expect(labels[cpuLabels.vendor]).toBe("Shang");
  });

  it("is read back, unless somebody changed one of the two", () => {
    expect(nodeCpuOf(nodeOf(young))).toEqual({ class: classOf(young), features: featuresOf(young) });
    const forged = nodeOf(old);
    expect(
      nodeCpuOf({ metadata: { ...forged.metadata, annotations: { [CPU_FEATURES_ANNOTATION]: young } } }),
    ).toBeUndefined();
    expect(nodeCpuOf({ metadata: { name: "node" } })).toBeUndefined();
  });
});

describe("where a guest can go on", () => {
  it("is every class with the same features or more, of the same maker", () => {
    expect(fittingCpuClasses({ guest: middle, nodes: cluster })).toEqual([classOf(middle), classOf(young)].sort());
    expect(fittingCpuClasses({ guest: young, nodes: cluster })).toEqual([classOf(young)]);
  });

  it("is back where it came from, too, since the guest keeps what it was given first", () => {
    // It began on the old node, and is on the young one by now.
    expect(fittingCpuClasses({ guest: old, nodes: cluster })).toContain(classOf(old));
  });

  it("is not known where the launcher or all nodes say nothing", () => {
    expect(fittingCpuClasses({ guest: undefined, nodes: cluster })).toBe("any");
    expect(fittingCpuClasses({ guest: "nonsense", nodes: cluster })).toBe("any");
    expect(fittingCpuClasses({ guest: young, nodes: [undefined, undefined] })).toBe("any");
    expect(withCpuAffinity(undefined, { guest: undefined, nodes: cluster })).toBeUndefined();
  });

  it("is a node like the first one where no node of today fits", () => {
    const nodes = [nodeCpuOf(nodeOf(old)), undefined];
    expect(fittingCpuClasses({ guest: young, nodes })).toEqual([]);
    expect(requirementsOf(withCpuAffinity(undefined, { guest: young, nodes }))).toEqual([
      [{ key: cpuLabels.class, operator: "In", values: [classOf(young)] }],
    ]);
  });
});

describe("the affinity of a pod that takes a guest over", () => {
  const wanted = { key: cpuLabels.class, operator: "In", values: [classOf(young)] };
  const placement = { guest: young, nodes: cluster };

  it("is the node's class where the machine asks for nothing", () => {
    expect(requirementsOf(withCpuAffinity(undefined, placement))).toEqual([[wanted]]);
  });

  it("has it in each alternative of the machine's own, and all else as it was", () => {
    const zone = { key: "zone", operator: "In", values: ["a"] };
    const field = { key: "metadata.name", operator: "In", values: ["node-1"] };
    const preferred = [{ weight: 1, preference: { matchExpressions: [zone] } }];
    const affinity = {
      podAntiAffinity: {},
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: preferred,
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [zone] }, { matchFields: [field] }],
        },
      },
    };
    const before = structuredClone(affinity);
    const merged = withCpuAffinity(affinity, placement);
    expect(requirementsOf(merged)).toEqual([[zone, wanted], [wanted]]);
    expect(merged).toMatchObject({
      podAntiAffinity: {},
      nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: preferred },
    });
    expect(affinity).toEqual(before);
  });

  it("does not open an alternative that matches no node", () => {
    const affinity = {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{}] } },
    };
    expect(requiringOfNode(affinity, wanted)).toEqual(affinity);
  });
});

function requirementsOf(affinity: ReturnType<typeof withCpuAffinity>) {
  return affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms.map(
    ({ matchExpressions }) => matchExpressions,
  );
}
