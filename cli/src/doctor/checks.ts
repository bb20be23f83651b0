import { parseQuantity } from "../../../crds/src/quantity.ts";
import { KVM_RESOURCE } from "../../../launcher/api/agent.ts";
import type { Node } from "../../../operator/src/runtime/wire.ts";
import { type ClusterFacts, type DaemonSet, type Deployment, isUnreadable } from "./facts.ts";
import { sharedClasses } from "./storage.ts";
import { isAtLeast } from "./versions.ts";

/** "fail": machines cannot run. "warn": something is off, or could be better. "unknown": it could not be looked at. */
export type Verdict = "ok" | "warn" | "fail" | "unknown";

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly message: string;
  /** What to do; absent where nothing needs to be done. */
  readonly advice?: string;
}

type Outcome = Omit<Finding, "check">;
type Check = (facts: ClusterFacts, cliVersion: string) => Outcome;

const INSTALL = "install the chart: helm install typevisor charts/typevisor -n typevisor-system --create-namespace";
const PRIVILEGED = "pod-security.kubernetes.io/enforce=privileged";

const checks: Readonly<Record<string, Check>> = {
  "Kubernetes version": ({ serverVersion }) => {
    if (!isAtLeast(serverVersion, 1, 33)) {
      return fail(
        `${serverVersion} is too old`,
        "upgrade to Kubernetes 1.33 or newer: disks of images need image volumes",
      );
    }
    return ok(serverVersion);
  },
  "API installed": ({ definition }) => {
    if (isUnreadable(definition)) return unknown(definition.unreadable);
    if (definition === undefined)
      return fail("there is no CustomResourceDefinition virtualmachines.typevisor.io", INSTALL);
    const established = definition.status?.conditions?.find(({ type }) => type === "Established");
    if (established?.status !== "True") {
      return fail(
        `the CustomResourceDefinition is not established: ${established?.message ?? "no word yet"}`,
        "kubectl describe crd virtualmachines.typevisor.io",
      );
    }
    const served = (definition.spec?.versions ?? []).filter((version) => version.served).map(({ name }) => name);
    if (!served.includes("v1alpha1")) {
      return fail(`it serves ${served.join(", ")}, not v1alpha1`, "use a kubectl-vm of the operator's version");
    }
    return ok(`virtualmachines.typevisor.io serves ${served.join(", ")}`);
  },
  Operator: ({ operators }) => {
    if (isUnreadable(operators)) return unknown(operators.unreadable);
    const [first, ...others] = operators;
    if (first === undefined) return fail("there is no operator", INSTALL);
    if (others.length > 0) {
      const names = operators.map(nameOf).join(", ");
      return warn(
        `there are ${operators.length}: ${names}`,
        "keep one release, unless each watches namespaces of its own",
      );
    }
    const available = first.status?.availableReplicas ?? 0;
    if (available === 0) {
      return fail(
        `no replica of ${nameOf(first)} is available`,
        `kubectl -n ${first.metadata?.namespace} describe pods -l app.kubernetes.io/component=controllers`,
      );
    }
    return ok(
      `${nameOf(first)}, ${available} of ${first.spec?.replicas ?? 1} available, version ${versionLabel(first)}`,
    );
  },
  Versions: ({ operators, definition, machines }, cliVersion) => {
    if (isUnreadable(operators)) return unknown(operators.unreadable);
    const [operator] = operators;
    if (operator === undefined) return unknown("there is no operator to compare with");
    const wanted = versionLabel(operator);
    const crd = isUnreadable(definition) ? undefined : definition?.metadata?.labels?.["app.kubernetes.io/version"];
    if (crd !== undefined && crd !== wanted) {
      return warn(
        `the CustomResourceDefinition is of ${crd}, the operator of ${wanted}`,
        "helm upgrade with crds.install=true, or apply the definition of the operator's version",
      );
    }
    const old = (isUnreadable(machines) ? [] : machines).filter(
      ({ status }) =>
        status?.podUID !== undefined &&
        status.launcherVersion !== undefined &&
        !sameVersion(status.launcherVersion, wanted),
    );
    if (old.length > 0) {
      return warn(
        `${old.length} machines run in a launcher of another version than the operator's ${wanted}, such as ${nameOf(old[0])}`,
        "they go on; when it suits, move them (kubectl vm migrate NAME) or restart them (kubectl vm restart NAME)",
      );
    }
    if (!sameVersion(cliVersion, wanted)) {
      return warn(
        `kubectl-vm is ${cliVersion}, the operator ${wanted}`,
        "install the kubectl-vm of the operator's release",
      );
    }
    return ok(`all are ${wanted}`);
  },
  "Node agents": ({ agents, agentPods }) => {
    if (isUnreadable(agents)) return unknown(agents.unreadable);
    const [agent] = agents;
    if (agent === undefined) return fail("there is no node agent", INSTALL);
    const { desiredNumberScheduled = 0, numberReady = 0 } = agent.status ?? {};
    if (desiredNumberScheduled === 0) {
      return fail(`${nameOf(agent)} fits no node`, "label nodes as the chart's node.nodeSelector says, or change that");
    }
    if (numberReady < desiredNumberScheduled) {
      return (numberReady === 0 ? fail : warn)(
        `${numberReady} of ${desiredNumberScheduled} are ready${agentsNotReady(agentPods)}`,
        `kubectl -n ${agent.metadata?.namespace} describe pods -l app.kubernetes.io/component=node; machines on such nodes go on, none starts there`,
      );
    }
    return ok(`${numberReady} of ${desiredNumberScheduled} are ready`);
  },
  KVM: ({ nodes }) => {
    if (isUnreadable(nodes)) return unknown(nodes.unreadable);
    const without = nodes.filter((node) => KVM_RESOURCE in allocatable(node) && kvmOf(node) === 0);
    const offering = nodes.filter((node) => kvmOf(node) > 0);
    const names = (some: readonly Node[]) => some.map((node) => node.metadata?.name).join(", ");
    if (offering.length === 0) {
      return fail(
        `no node offers ${KVM_RESOURCE}`,
        "a node needs /dev/kvm: virtualization switched on in its BIOS, or nested virtualization where it is a machine itself, and the module kvm-intel or kvm-amd",
      );
    }
    if (without.length > 0) {
      return warn(
        `${offering.length} nodes offer it, these cannot: ${names(without)}`,
        "load kvm-intel or kvm-amd there",
      );
    }
    return ok(`${offering.length} of ${nodes.length} nodes offer it: ${names(offering)}`);
  },
  "vhost-net": ({ vhostNet }) => {
    if (isUnreadable(vhostNet)) return unknown(vhostNet.unreadable);
    const without = [...vhostNet].filter(([, isUsable]) => !isUsable).map(([node]) => node);
    if (vhostNet.size === 0) return unknown("no node agent says whether its node has it");
    if (without.length > 0) {
      return warn(
        `not on ${without.join(", ")}`,
        "modprobe vhost_net there, and have it loaded at boot; interfaces work without, but cost the launcher's processor time",
      );
    }
    return ok(`nodes with an agent have it (${vhostNet.size}): the kernel carries machines' frames`);
  },
  "Image volumes": ({ nodes, serverVersion }) => {
    if (isUnreadable(nodes)) return unknown(nodes.unreadable);
    const offering = nodes.filter((node) => kvmOf(node) > 0);
    const old = offering.filter((node) => !canMountImages(node));
    if (old.length > 0) {
      const told = old.map(({ metadata, status }) => {
        const { kubeletVersion, containerRuntimeVersion } = status?.nodeInfo ?? {};
        return `${metadata?.name} (kubelet ${kubeletVersion}, ${containerRuntimeVersion})`;
      });
      return warn(
        `these nodes cannot mount images: ${told.join(", ")}`,
        "disks and kernels of images need kubelet 1.33 and containerd 2.1 or CRI-O 1.31 or newer; claims work without",
      );
    }
    if (!isAtLeast(serverVersion, 1, 35)) {
      return warn(
        `${serverVersion} has them behind a feature gate`,
        "switch ImageVolume on in API server and kubelets",
      );
    }
    return ok("kubelets and container runtimes can mount images");
  },
  Seccomp: ({ operators, agents }) => {
    if (isUnreadable(operators)) return unknown(operators.unreadable);
    if (isUnreadable(agents)) return unknown(agents.unreadable);
    if (!argumentsOf(operators[0]).includes("--launcher-seccomp=Localhost")) {
      return ok(
        "RuntimeDefault: launchers use threads for disks; the chart's launcher.seccomp=Localhost lets them use io_uring",
      );
    }
    if (!argumentsOf(agents[0]).some((argument) => argument.startsWith("--seccomp-dir="))) {
      return fail(
        "launchers ask for a profile that node agents do not install",
        "set launcher.seccomp=Localhost in one helm upgrade, so that both know",
      );
    }
    return ok("Localhost: node agents install the launchers' profile");
  },
  "Pod Security": ({ namespaces, agents }) => {
    if (isUnreadable(namespaces)) return unknown(namespaces.unreadable);
    if (isUnreadable(agents)) return unknown(agents.unreadable);
    const home = namespaces.find(({ metadata }) => metadata?.name === agents[0]?.metadata?.namespace);
    const level = home?.metadata?.labels?.["pod-security.kubernetes.io/enforce"];
    if (home !== undefined && level !== undefined && level !== "privileged") {
      return fail(
        `namespace ${home.metadata?.name} enforces ${level}, which refuses the node agent`,
        `kubectl label namespace ${home.metadata?.name} ${PRIVILEGED} --overwrite`,
      );
    }
    return ok("the node agent is let in; machines fit any level, restricted too");
  },
  "Storage classes": ({ storageClasses }) => {
    if (isUnreadable(storageClasses)) return unknown(storageClasses.unreadable);
    if (storageClasses.length === 0) {
      return warn(
        "there is none",
        "claims need volumes made by hand, or a provisioner; images and empty disks work without",
      );
    }
    const isDefault = (annotations: Record<string, string> | undefined) =>
      annotations?.["storageclass.kubernetes.io/is-default-class"] === "true";
    const defaults = storageClasses.filter(({ metadata }) => isDefault(metadata?.annotations));
    if (defaults.length !== 1) {
      const known = storageClasses.map(({ metadata }) => metadata?.name).join(", ");
      return warn(
        `${defaults.length === 0 ? "none" : `${defaults.length}`} of ${known} is the default`,
        "claims must name their storageClassName, or annotate one class storageclass.kubernetes.io/is-default-class=true",
      );
    }
    const grows = storageClasses.filter(({ allowVolumeExpansion }) => allowVolumeExpansion === true).length;
    return ok(`${storageClasses.length}, default ${defaults[0]?.metadata?.name}; ${grows} let claims grow`);
  },
  "Shared storage": ({ storageClasses, volumes }) => {
    if (isUnreadable(storageClasses)) return unknown(storageClasses.unreadable);
    if (isUnreadable(volumes)) return unknown(volumes.unreadable);
    const shared = sharedClasses(storageClasses, volumes);
    if (shared.length === 0) {
      return warn(
        "no class is known to give volumes that two nodes can have (ReadWriteMany)",
        "machines whose disks are on other claims migrate and drain only to other claims (kubectl vm migrate --target-claim): see docs/migration.md",
      );
    }
    return ok(`${shared.join(", ")}: machines on claims with accessModes [ReadWriteMany] migrate live`);
  },
  Machines: ({ machines }) => {
    if (isUnreadable(machines)) return unknown(machines.unreadable);
    const stalled = machines.filter(({ status }) =>
      status?.conditions?.some(({ type, status: state }) => type === "Stalled" && state === "True"),
    );
    const [first] = stalled;
    if (first === undefined) return ok(`${machines.length}, none of them stalled`);
    const reason = first.status?.conditions?.find(({ type }) => type === "Stalled")?.reason;
    return warn(
      `${stalled.length} of ${machines.length} wait for someone, such as ${nameOf(first)} (${reason})`,
      `kubectl vm describe ${first.metadata.name} -n ${first.metadata.namespace}`,
    );
  },
};

/** Every check in order; pure. */
export function diagnose(facts: ClusterFacts, cliVersion: string): Finding[] {
  return Object.entries(checks).map(([check, look]) => ({ check, ...look(facts, cliVersion) }));
}

const ok = (message: string): Outcome => ({ verdict: "ok", message });
const unknown = (message: string): Outcome => ({ verdict: "unknown", message });
const warn = (message: string, advice: string): Outcome => ({ verdict: "warn", message, advice });
const fail = (message: string, advice: string): Outcome => ({ verdict: "fail", message, advice });

function nameOf(
  object: { readonly metadata?: { readonly namespace?: string; readonly name?: string } } | undefined,
): string {
  return `${object?.metadata?.namespace}/${object?.metadata?.name}`;
}

function versionLabel(operator: Deployment): string {
  return operator.metadata?.labels?.["app.kubernetes.io/version"] ?? "unknown";
}

/** Builds between releases call themselves dev and development: they say nothing. */
function sameVersion(a: string, b: string): boolean {
  const plain = (version: string) => version.replace(/^v/, "");
  return [a, b].some((version) => version.startsWith("dev") || version === "unknown") || plain(a) === plain(b);
}

function argumentsOf(workload: Deployment | DaemonSet | undefined): readonly string[] {
  return workload?.spec?.template.spec?.containers.flatMap(({ args }) => args ?? []) ?? [];
}

function allocatable(node: Node): Readonly<Record<string, string>> {
  return node.status?.allocatable ?? {};
}

function kvmOf(node: Node): number {
  return parseQuantity(allocatable(node)[KVM_RESOURCE] ?? 0);
}

function agentsNotReady(pods: ClusterFacts["agentPods"]): string {
  if (isUnreadable(pods)) return "";
  const nodes = pods
    .filter(
      ({ status }) => !status?.conditions?.some(({ type, status: state }) => type === "Ready" && state === "True"),
    )
    .map(({ spec }) => spec?.nodeName ?? "no node");
  return nodes.length === 0 ? "" : `; not on ${nodes.join(", ")}`;
}

function canMountImages({ status }: Node): boolean {
  const { kubeletVersion = "", containerRuntimeVersion = "" } = status?.nodeInfo ?? {};
  const runtimeCan = containerRuntimeVersion.startsWith("cri-o://")
    ? isAtLeast(containerRuntimeVersion, 1, 31)
    : containerRuntimeVersion.startsWith("containerd://") && isAtLeast(containerRuntimeVersion, 2, 1);
  return isAtLeast(kubeletVersion, 1, 33) && runtimeCan;
}
