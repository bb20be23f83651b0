import type { Kubectl } from "./kubectl.ts";

/** Bytes that `/slow` serves, at some 1 MiB a second. */
export const SLOW_BYTES = 16 * 2 ** 20;

/** `/slow` is a raw disk whose first sector begins with the number 4711; every other path is a file of the ConfigMap. */
const SERVER = `
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");
const slow = Buffer.alloc(${SLOW_BYTES}, 1);
slow.writeBigUInt64LE(4711n);
createServer((request, response) => {
  const isSlow = request.url === "/slow";
  let file;
  try { file = isSlow ? slow : readFileSync("/files" + request.url); } catch { response.writeHead(404).end(); return; }
  const from = Number(/^bytes=(\\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const headers = { ETag: '"1"', "Content-Length": file.length - from };
  if (from > 0) headers["Content-Range"] = "bytes " + from + "-" + (file.length - 1) + "/" + file.length;
  response.writeHead(from > 0 ? 206 : 200, headers);
  if (!isSlow) { response.end(file.subarray(from)); return; }
  let at = from;
  const timer = setInterval(() => {
    response.write(file.subarray(at, at + 65536));
    at += 65536;
    if (at >= file.length) { clearInterval(timer); response.end(); }
  }, 60);
  response.on("close", () => clearInterval(timer));
}).listen(8080);
`;

/** Runs a web server with `files` in a pod, and answers its URL. */
export async function startDiskServer(kubectl: Kubectl, files: Readonly<Record<string, Buffer>>): Promise<string> {
  const binaryData = Object.fromEntries(Object.entries(files).map(([name, file]) => [name, file.toString("base64")]));
  await kubectl.run(["create", "-f", "-"], {
    input: JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "files" }, binaryData }),
  });
  await kubectl.apply({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "server" },
    spec: {
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          name: "server",
          image: "docker.io/typevisor/operator:dev",
          imagePullPolicy: "IfNotPresent",
          command: ["/usr/local/bin/node", "-e", SERVER],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
          readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
          volumeMounts: [{ name: "files", mountPath: "/files" }],
        },
      ],
      volumes: [{ name: "files", configMap: { name: "files" } }],
    },
  });
  const pod = await kubectl.waitFor("pod", "server", "condition=Ready");
  return `http://${pod.status.podIP}:8080`;
}
