import { accessSync, constants } from "node:fs";

/** A step of the test run: `prepare` sets up what it needs, then either jest or plain commands run. */
export interface Tier {
  readonly name: string;
  readonly about: string;
  /** Commands that must end with 0 before the tests run; built things land in caches and dist/. */
  readonly prepare: readonly string[][];
  /** Why the tier cannot run on this machine, or null. */
  readonly obstacle: () => string | null;
  /** Tiers of a lane run one after another; lanes run side by side, since most tests wait more than they compute. */
  readonly lane: "host" | "emulated";
  /** Slow work of `prepare` that begins with the run, at low priority, when its tier is not the first of its lane. */
  readonly ahead?: readonly string[];
  /** Ends what `prepare` started; run after the tests, whatever came of them. */
  readonly cleanUp?: readonly string[][];
  readonly run:
    | { readonly kind: "jest"; readonly project: string; readonly inBand: boolean }
    | { readonly kind: "commands"; readonly commands: readonly string[][] };
}

const none = () => null;

function kvmObstacle(): string | null {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return null;
  } catch {
    return "/dev/kvm cannot be opened for reading and writing (load kvm-intel or kvm-amd, and be root or in group kvm)";
  }
}

function rootObstacle(): string | null {
  return process.getuid?.() === 0 ? null : "nodes, networks and mounts need root";
}

/** Builds Kubernetes where the machine has not built it yet, which takes as long as many tests. */
const kubernetes = ["nice", "-n", "10", "hack/cluster", "build"];

export const tiers: readonly Tier[] = [
  {
    name: "check",
    lane: "host",
    about: "types, lint, layer rules",
    prepare: [],
    obstacle: none,
    run: {
      kind: "commands",
      commands: [
        ["tsc", "-p", "."],
        ["biome", "check", "."],
        ["depcruise", "--config", ".dependency-cruiser.js", "launcher", "operator", "crds", "cli"],
      ],
    },
  },
  {
    name: "unit",
    lane: "host",
    about: "pure parts, anywhere",
    prepare: [["hack/setup", "unit"]],
    obstacle: none,
    run: { kind: "jest", project: "unit", inBand: false },
  },
  {
    name: "kvm",
    lane: "host",
    about: "the machine monitor with the test guest, on /dev/kvm",
    prepare: [["hack/setup", "kvm"]],
    obstacle: kvmObstacle,
    run: { kind: "jest", project: "kvm", inBand: true },
  },
  {
    name: "linux",
    lane: "emulated",
    about: "Debian guests, on usable KVM or in a nested node",
    prepare: [["hack/setup", "linux"]],
    obstacle: rootObstacle,
    cleanUp: [["hack/linux-lab/lab", "down"]],
    run: { kind: "jest", project: "linux", inBand: true },
  },
  {
    name: "e2e",
    lane: "host",
    about: "what users do, on a real cluster whose node is this machine",
    prepare: [["hack/setup", "e2e"]],
    ahead: kubernetes,
    obstacle: () => kvmObstacle() ?? rootObstacle(),
    run: { kind: "jest", project: "e2e", inBand: true },
  },
  {
    name: "e2e-nodes",
    lane: "emulated",
    about: "what takes two nodes, and hack/quickstart",
    prepare: [["hack/setup", "e2e-nodes"]],
    ahead: kubernetes,
    obstacle: rootObstacle,
    run: { kind: "jest", project: "e2e-nodes", inBand: true },
  },
];
