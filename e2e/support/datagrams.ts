import { MULTUS_NETWORKS_ANNOTATION } from "../../crds/src/interface.ts";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { inNetns } from "../../hack/dev-cluster/network.ts";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME } from "./cluster.ts";
import type { Kubectl } from "./kubectl.ts";

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

interface NodePod {
  /** What its Node runs. */
  readonly program?: string;
  readonly nodeName?: string;
  /** Networks of Multus, by the names of their definitions. */
  readonly networks?: string;
}

/** Sends a word to each endpoint, five times at most, for a datagram may be lost, and prints what came back from each. */
const ASK = `
const { createSocket } = require("node:dgram");
const { once } = require("node:events");
const ask = async ({ address, port }) => {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.connect(port, address);
  await once(socket, "connect");
  try {
    for (let i = 0; i < 5; i++) {
      socket.send("hello");
      const [answer] = await once(socket, "message", { signal: AbortSignal.timeout(2000) }).catch((error) => [error.name]);
      if (String(answer) === "hello") return "hello";
    }
    return "no answer";
  } catch (error) {
    return error.message;
  } finally {
    socket.close();
  }
};
Promise.all(JSON.parse(process.argv[1]).map(ask)).then((answers) => console.log(JSON.stringify(answers)));
`;

/** Sends datagrams back, and prints what is in them. */
export const echoServer = (port: number) => `
const { createSocket } = require("node:dgram");
const socket = createSocket("udp6").bind(${port});
socket.on("message", (message, { address, port }) => {
  console.log(String(message));
  socket.send(message, port, address);
});
`;

/** A pod with Node, in which datagrams are sent: busybox has no program for them. By default it waits to be told to. */
export function nodePod(
  name: string,
  { program = "setInterval(() => {}, 1e9)", networks, ...spec }: NodePod = {},
): object {
  const annotations = networks === undefined ? {} : { [MULTUS_NETWORKS_ANNOTATION]: networks };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: name }, annotations },
    spec: {
      ...spec,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          name: "node",
          image: "docker.io/typevisor/operator:dev",
          imagePullPolicy: "IfNotPresent",
          command: ["/usr/local/bin/node", "-e", program],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        },
      ],
    },
  };
}

/** What each endpoint answers to "hello" in a datagram from the native node itself. */
export async function datagramAnswersToNode(to: readonly Endpoint[]): Promise<string[]> {
  const command = inNetns(layoutOf(CLUSTER_NAME), process.execPath, "-e", ASK, JSON.stringify(to));
  return JSON.parse(await run(command)) as string[];
}

/** What each endpoint answers to "hello" in a datagram from such a pod. */
export async function datagramAnswers(kubectl: Kubectl, pod: string, to: readonly Endpoint[]): Promise<string[]> {
  const command = ["exec", pod, "--", "/usr/local/bin/node", "-e", ASK, JSON.stringify(to)];
  return JSON.parse(await kubectl.run(command, { timeoutMs: 60_000 })) as string[];
}
