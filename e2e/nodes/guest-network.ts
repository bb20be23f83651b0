import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { VirtualMachineManifest } from "../../crds/src/virtualmachine.ts";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { ConsoleTimeout, ConsoleUser } from "../../hack/lib/guest-console.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { Kubectl } from "../support/kubectl.ts";
import { fetchLine } from "../support/toolbox.ts";
import { podOf } from "../support/vm.ts";

const root = join(import.meta.dirname, "..", "..");
const SHELL_MS = 120_000;

/** kubectl for a cluster that is up, in its namespace `default`. */
export async function kubectlOf(clusterName: string): Promise<Kubectl> {
  const { kube } = await ensureTools();
  return new Kubectl(join(kube, "kubectl"), layoutOf(clusterName).kubeconfig, "default");
}

/** A small guest of Debian's kernel and busybox, with its shell. */
export class NetworkedGuest implements AsyncDisposable {
  readonly console: ConsoleUser;
  readonly #child;

  constructor(kubectl: Kubectl, name: string) {
    // Without what others said there before: their marks would be taken for ours.
    const [program = "", ...args] = kubectl.argv("exec", "--stdin", podOf(name), "--", "console", "--no-history");
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "ignore"] });
    this.console = new ConsoleUser(this.#child.stdout, this.#child.stdin);
  }

  /** Its shell is there, and answers. */
  async ready(): Promise<this> {
    await waitFor(
      async () => {
        this.console.type("\n");
        return this.console.see(/hello# /, 5_000).catch((error: unknown) => {
          if (error instanceof ConsoleTimeout) return undefined;
          throw error;
        });
      },
      { what: "the guest's shell", timeoutMs: 600_000 },
    );
    return this;
  }

  run(line: string): Promise<string> {
    return this.console.shell(line, SHELL_MS);
  }

  /** The bodies that web servers answer with, a line each; an error message of wget's otherwise. */
  fetch(...urls: string[]): Promise<string> {
    return this.run(fetchLine(urls));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.console.close();
    this.#child.kill();
  }
}

/** The machine and the Service of examples/web.yaml; the machine on the given node and in a headless Service. */
export function webExample(nodeName: string): [VirtualMachineManifest, { spec: object }] {
  const text = readFileSync(join(root, "examples/web.yaml"), "utf8");
  const [vm, service] = parseAllDocuments(text).map((document) => document.toJS());
  vm.spec.template = {
    spec: { nodeSelector: { "kubernetes.io/hostname": nodeName }, hostname: "web-0", subdomain: "machines" },
  };
  return [vm, service];
}

/** A Service without an address of its own, whose pods have names. */
export const headlessService = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "machines" },
  spec: { clusterIP: "None", ipFamilyPolicy: "PreferDualStack", selector: { app: "web" } },
};

/** A Service that each node answers for. */
export const nodePortService = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web-node-port" },
  spec: {
    type: "NodePort",
    ipFamilyPolicy: "PreferDualStack",
    selector: { app: "web" },
    ports: [{ port: 80, nodePort: 30080 }],
  },
};
