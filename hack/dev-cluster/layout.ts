import { homedir } from "node:os";
import { join } from "node:path";

export type Flavour = "native" | "qemu";

/** Where a cluster keeps its things; all follow from its name. */
export interface Layout {
  readonly name: string;
  /** Survives a reboot: certificates, etcd, logs, images, disks. */
  readonly stateDir: string;
  /** Gone after a reboot: process records, sockets, namespace handles. Short, for sun_path has 108 bytes. */
  readonly runDir: string;
  /** Of `ip netns`. */
  readonly netns: string;
  /** Below the root of each hierarchy, without a leading slash. */
  readonly cgroup: string;
  readonly pkiDir: string;
  readonly logDir: string;
  /** For a person's kubectl; reaches the API server through 127.0.0.1. */
  readonly kubeconfig: string;
}

export function layoutOf(name: string, env: NodeJS.ProcessEnv = process.env): Layout {
  const stateDir = join(stateHome(env), name);
  return {
    name,
    stateDir,
    runDir: join("/run/typevisor-dev", name),
    netns: `typevisor-${name}`,
    cgroup: `typevisor-${name}`,
    pkiDir: join(stateDir, "pki"),
    logDir: join(stateDir, "log"),
    kubeconfig: join(stateDir, "kubeconfig"),
  };
}

export function stateHome(env: NodeJS.ProcessEnv = process.env): string {
  return join(env["XDG_STATE_HOME"] || join(homedir(), ".local/state"), "typevisor");
}

/** As Kubernetes names them. */
export type IpFamily = "IPv4" | "IPv6";

/** Of pods and Services, the one that comes first first. */
export type IpFamilies = readonly [IpFamily, ...IpFamily[]];

/** Every cluster has a network namespace to itself, so all of them use the same addresses. */
export const addresses = {
  bridge: "tv0",
  apiPort: 6443,
  /** The machine's network has both families always; programs of the cluster find each other by IPv4. */
  controlPlane: "172.30.0.1",
} as const;

/** Addresses of one family. */
export interface FamilyAddresses {
  readonly controlPlane: string;
  /** Of the network that control plane and nodes are in. */
  readonly prefixLength: number;
  readonly serviceRange: string;
  /** The first of the service range: the Service `kubernetes`. */
  readonly apiService: string;
  readonly dnsService: string;
  readonly podRange: string;
}

export const familyAddresses: Readonly<Record<IpFamily, FamilyAddresses>> = {
  IPv4: {
    controlPlane: addresses.controlPlane,
    prefixLength: 24,
    serviceRange: "10.96.0.0/16",
    apiService: "10.96.0.1",
    dnsService: "10.96.0.10",
    podRange: "10.244.0.0/16",
  },
  IPv6: {
    controlPlane: "fd00:30::1",
    prefixLength: 64,
    serviceRange: "fd00:10:96::/112",
    apiService: "fd00:10:96::1",
    dnsService: "fd00:10:96::a",
    podRange: "fd00:10:244::/56",
  },
};

/** The same of several families, in their order. */
export function ofFamilies(families: readonly IpFamily[], what: keyof FamilyAddresses): string[] {
  return families.map((family) => String(familyAddresses[family][what]));
}

/** One node; `number` counts from 1. */
export interface NodeIdentity {
  readonly name: string;
  readonly number: number;
  readonly addresses: Readonly<Record<IpFamily, string>>;
  readonly podCidrs: Readonly<Record<IpFamily, string>>;
}

export function nodeIdentity(number: number): NodeIdentity {
  return {
    name: `node${number}`,
    number,
    addresses: { IPv4: `172.30.0.${10 + number}`, IPv6: `fd00:30::${10 + number}` },
    podCidrs: { IPv4: `10.244.${number}.0/24`, IPv6: `fd00:10:244:${number}::/64` },
  };
}
