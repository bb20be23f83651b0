import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { copyFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { run, say } from "../../lib/step.ts";
import { type Cached, cached, missingEstimate } from "./cache.ts";
import { findGo } from "./go.ts";
import { versions } from "./versions.ts";

/** Directories with the programs of the cluster, each ready to be put in PATH. */
export interface Tools {
  /** kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubectl */
  kube: string;
  /** containerd, containerd-shim-runc-v2, ctr */
  containerd: string;
  runc: string;
  /** bridge, host-local, macvlan, portmap, vlan */
  cni: string;
  helm: string;
  /** local-path-provisioner */
  localPath: string;
  /** coredns */
  dns: string;
}

export const kubePrograms = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-proxy",
  "kube-scheduler",
  "kubectl",
  "kubelet",
] as const;

/** Builds what is missing. */
export async function ensureTools(): Promise<Tools> {
  const things = {
    kube: kube(),
    containerd: containerd(),
    runc: runc(),
    cni: cni(),
    helm: helm(),
    localPath: localPath(),
    dns: dns(),
  };
  const estimate = missingEstimate(Object.values(things));
  if (estimate) say(`To build once: ${estimate}`);
  return {
    // One after the other: each already uses all cores.
    runc: await cached(things.runc),
    cni: await cached(things.cni),
    containerd: await cached(things.containerd),
    helm: await cached(things.helm),
    kube: await cached(things.kube),
    // Last: most of what they are made of has been compiled by then.
    localPath: await cached(things.localPath),
    dns: await cached(things.dns),
  };
}

/** The directory with helm alone, for what needs no cluster. */
export function ensureHelm(): Promise<string> {
  return cached(helm());
}

/** The directory with multus-daemon and multus-shim, for clusters that are to have Multus. */
export function ensureMultusPrograms(): Promise<string> {
  const commands = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd";
  return cached(
    ofModule("multus", {
      name: "multus",
      title: "Multus",
      version: versions.multus,
      estimateSeconds: 40,
      programs: ["multus-daemon", "multus-shim"].map((program) => `${commands}/${program}`),
    }),
  );
}

/** The directory with kube-network-policies, for clusters that are to enforce NetworkPolicies. */
export function ensureKubeNetworkPolicies(): Promise<string> {
  return cached(
    ofModule("network-policies", {
      name: "kube-network-policies",
      version: versions.kubeNetworkPolicies,
      estimateSeconds: 40,
      programs: ["sigs.k8s.io/kube-network-policies/cmd"],
      output: "kube-network-policies",
    }),
  );
}

const compact = "-s -w";

interface ModuleBuild {
  readonly name: string;
  /** Where people call it otherwise. */
  readonly title?: string;
  readonly version: string;
  readonly estimateSeconds: number;
  /** Import paths. */
  readonly programs: readonly string[];
  /** Of the one program; without, each has the last element of its path. */
  readonly output?: string;
  readonly ldflags?: string;
}

/**
 * Programs built by a Go module of ours, a directory beside this one. Such modules name the versions of kube/go.mod where
 * both need a module, so that what they share is compiled once.
 */
function ofModule(directory: string, build: ModuleBuild): Cached {
  const { name, title = name, version, estimateSeconds, programs, output = "", ldflags = "" } = build;
  const cwd = join(import.meta.dirname, "..", directory);
  return {
    key: `${name}-${version}-${sourceKey(cwd)}`,
    title: `Building ${title} ${version}`,
    estimateSeconds,
    build: async (dir, logFile) => {
      await go(["build", "-ldflags", `${compact} ${ldflags}`, "-o", `${dir}/${output}`, ...programs], { cwd, logFile });
    },
  };
}

/** What stands for the program that a Go module of ours makes. */
function sourceKey(directory: string): string {
  const hash = createHash("sha256");
  const files = ["main.go", "go.mod", "go.sum"].map((file) => join(directory, file));
  for (const file of files) if (existsSync(file)) hash.update(readFileSync(file));
  return hash.digest("hex").slice(0, 8);
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}

function kube(): Cached {
  const [major, minor] = versions.kubernetes.split(".");
  const flag = (name: string, value: string) => `-X k8s.io/component-base/version.${name}=${value}`;
  const ldflags = [
    flag("gitVersion", `v${versions.kubernetes}`),
    flag("gitMajor", major ?? ""),
    flag("gitMinor", minor ?? ""),
    flag("gitCommit", ""),
    flag("gitTreeState", "clean"),
  ].join(" ");
  const binary = ofModule("kube", {
    name: "kube",
    title: "Kubernetes",
    version: versions.kubernetes,
    estimateSeconds: 720,
    programs: ["."],
    output: "kube",
    ldflags,
  });
  return {
    ...binary,
    async build(dir, logFile) {
      await binary.build(dir, logFile);
      for (const program of kubePrograms) await symlink("kube", join(dir, program));
    },
  };
}

function dns(): Cached {
  return ofModule("dns", {
    name: "coredns",
    title: "CoreDNS",
    version: versions.coredns,
    estimateSeconds: 60,
    programs: ["."],
    output: "coredns",
  });
}

function containerd(): Cached {
  const module = "github.com/containerd/containerd/v2";
  return {
    key: `containerd-${versions.containerd}`,
    title: `Building containerd ${versions.containerd}`,
    estimateSeconds: 90,
    async build(dir, logFile) {
      for (const program of ["containerd", "containerd-shim-runc-v2", "ctr"]) {
        await goInstall(`${module}/cmd/${program}@v${versions.containerd}`, dir, {
          logFile,
          ldflags: `${compact} -X ${module}/version.Version=v${versions.containerd}`,
        });
      }
    },
  };
}

function runc(): Cached {
  return {
    key: `runc-${versions.runc}`,
    title: `Building runc ${versions.runc}`,
    estimateSeconds: 25,
    build: (dir, logFile) =>
      goInstall(`github.com/opencontainers/runc@v${versions.runc}`, dir, {
        logFile,
        tags: "seccomp",
        cgo: true,
        ldflags: `${compact} -X main.version=${versions.runc}`,
      }),
  };
}

const cniPluginFolders = { bridge: "main", "host-local": "ipam", macvlan: "main", portmap: "meta", vlan: "main" };
/** The CNI plugins of pods' own network, and of networks that Multus adds. */
export const cniPlugins = Object.keys(cniPluginFolders) as (keyof typeof cniPluginFolders)[];

function cni(): Cached {
  const module = "github.com/containernetworking/plugins";
  return {
    key: `cni-plugins-${versions.cniPlugins}-${hashOf(cniPlugins.join())}`,
    title: `Building CNI plugins ${versions.cniPlugins}`,
    estimateSeconds: 25,
    async build(dir, logFile) {
      for (const plugin of cniPlugins) {
        const path = `${module}/plugins/${cniPluginFolders[plugin]}/${plugin}@v${versions.cniPlugins}`;
        await goInstall(path, dir, { logFile, ldflags: compact });
      }
    },
  };
}

function helm(): Cached {
  return ofModule("helm", {
    name: "helm",
    version: versions.helm,
    estimateSeconds: 70,
    programs: ["helm.sh/helm/v3/cmd/helm"],
    ldflags: `-X helm.sh/helm/v3/internal/version.version=v${versions.helm}`,
  });
}

function localPath(): Cached {
  return ofModule("storage", {
    name: "local-path-provisioner",
    version: versions.localPathProvisioner,
    estimateSeconds: 15,
    programs: ["github.com/rancher/local-path-provisioner"],
    ldflags: `-X main.VERSION=${versions.localPathProvisioner}`,
  });
}

/** The directory with kubeconform, which only tests of the chart need. */
export function ensureKubeconform(): Promise<string> {
  return cached({
    key: `kubeconform-${versions.kubeconform}`,
    title: `Building kubeconform ${versions.kubeconform}`,
    estimateSeconds: 30,
    build: (dir, logFile) =>
      goInstall(`github.com/yannh/kubeconform/cmd/kubeconform@v${versions.kubeconform}`, dir, {
        logFile,
        ldflags: compact,
      }),
  });
}

const prometheusOperatorKinds = ["podmonitors", "servicemonitors", "prometheusrules"];

/** The directory with the CustomResourceDefinitions of the Prometheus operator that the chart has objects of. */
export function ensurePrometheusOperatorDefinitions(): Promise<string> {
  const module = `github.com/prometheus-operator/prometheus-operator@v${versions.prometheusOperator}`;
  return cached({
    key: `prometheus-operator-definitions-${versions.prometheusOperator}`,
    title: `Fetching the Prometheus operator's definitions ${versions.prometheusOperator}`,
    estimateSeconds: 5,
    build: async (dir, logFile) => {
      const { Dir } = JSON.parse(await go(["mod", "download", "-json", module], { cwd: dir, logFile })) as {
        Dir: string;
      };
      for (const kind of prometheusOperatorKinds) {
        const file = `monitoring.coreos.com_${kind}.yaml`;
        await copyFile(join(Dir, "example/prometheus-operator-crd", file), join(dir, file));
      }
    },
  });
}

interface InstallOptions {
  logFile: string;
  ldflags: string;
  tags?: string;
  cgo?: boolean;
}

async function goInstall(target: string, dir: string, options: InstallOptions): Promise<void> {
  const tags = options.tags ? ["-tags", options.tags] : [];
  await go(["install", ...tags, "-ldflags", options.ldflags, target], {
    cwd: dir,
    logFile: options.logFile,
    env: { GOBIN: dir, ...(options.cgo ? { CGO_ENABLED: "1" } : {}) },
  });
}

/** The same for all, or nothing is shared. Symbols for debuggers are left out when linking, so they need not be compiled. */
const flags = "-mod=readonly -trimpath -gcflags=all=-dwarf=false";

async function go(
  args: readonly string[],
  options: { cwd: string; logFile: string; env?: Record<string, string> },
): Promise<string> {
  const program = await findGo();
  return run([program, ...args], {
    ...options,
    env: { GOTOOLCHAIN: "local", GOFLAGS: flags, GOWORK: "off", CGO_ENABLED: "0", ...options.env },
    advice:
      "check that the Go module proxy can be reached (GOPROXY) and that the disk is not full, then run this again",
  });
}
