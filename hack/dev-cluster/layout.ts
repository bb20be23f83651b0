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

/** Every cluster has a network namespace to itself, so all of them use the same addresses. */
export const addresses = {
  bridge: "tv0",
  controlPlane: "172.30.0.1",
  prefixLength: 24,
  apiPort: 6443,
  serviceRange: "10.96.0.0/16",
  /** The first of the service range: the Service `kubernetes`. */
  apiService: "10.96.0.1",
  dnsService: "10.96.0.10",
  podRange: "10.244.0.0/16",
} as const;

/** One node; `number` counts from 1. */
export interface NodeIdentity {
  readonly name: string;
  readonly number: number;
  readonly address: string;
  readonly podCidr: string;
}

export function nodeIdentity(number: number): NodeIdentity {
  return {
    name: `node${number}`,
    number,
    address: `172.30.0.${10 + number}`,
    podCidr: `10.244.${number}.0/24`,
  };
}
