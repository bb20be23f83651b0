import { isIPv6 } from "node:net";
import type { Kubectl } from "./kubectl.ts";

/** Port of a toolbox's web server, which answers /hostname with the pod's name. */
export const TOOLBOX_PORT = 8080;

/** A pod of busybox, by default on any node, that fits Pod Security `restricted`. */
export function toolboxPod(name: string, nodeName?: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: "toolbox" } },
    spec: {
      ...(nodeName === undefined ? {} : { nodeName }),
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: "toolbox",
          image: "docker.io/typevisor/toolbox:dev",
          imagePullPolicy: "IfNotPresent",
          securityContext: {
            runAsNonRoot: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ["ALL"] },
            seccompProfile: { type: "RuntimeDefault" },
          },
        },
      ],
    },
  };
}

/** An address as it stands in a URL. */
export function urlHost(address: string): string {
  return isIPv6(address) ? `[${address}]` : address;
}

/** What web servers answer to a pod, one after the other; an error message of wget's otherwise. */
export function fetchFrom(kubectl: Kubectl, pod: string, ...urls: string[]): Promise<string> {
  return runIn(kubectl, pod, `${fetchLine(urls)}; true`);
}

/** A line of shell: programs are slow to start on emulated nodes, and so is each question. */
export function fetchLine(urls: readonly string[]): string {
  return `for url in ${urls.join(" ")}; do wget -q -T 10 -O - $url 2>&1; done`;
}

/** Output of a line of shell in a toolbox. */
export async function runIn(kubectl: Kubectl, pod: string, line: string): Promise<string> {
  return (await kubectl.run(["exec", pod, "--", "sh", "-c", line], { timeoutMs: 60_000 })).trim();
}
