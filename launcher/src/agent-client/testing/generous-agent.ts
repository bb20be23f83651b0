import { createServer } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { openFile } from "../../sys/file-io.ts";
import { sendFds } from "../../sys/unix-socket.ts";

// A worker: answers each request with `workerData.count` descriptors and `workerData.taps`, whatever was asked.
const { taps } = workerData;
const answer = Buffer.from(`${JSON.stringify({ version: 1, ok: true, agentVersion: "1", taps })}\n`);

createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", () => {
    using device = openFile("/dev/null");
    sendFds(Object(socket)._handle.fd, answer, Array(workerData.count).fill(device.fd));
  });
}).listen(workerData.path, () => parentPort?.postMessage("listening"));
