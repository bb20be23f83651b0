/** What a migration's threads run: copying memory, which would hold up the event loop of the machine. */
import { parentPort, workerData } from "node:worker_threads";
import { digestImage } from "./digest-image.ts";
import { loadMemory, saveMemory } from "./memory-file.ts";
import { receiveMemory } from "./receive-memory.ts";
import { type PassRequest, sendMemory } from "./send-memory.ts";
import type { EndRequest, WorkerTask } from "./worker-thread.ts";

let hasTask = false;
parentPort?.on("message", (message: WorkerTask | PassRequest | EndRequest) => {
  if (message === "end") process.exit(0);
  if (!hasTask && "kind" in message) begin(message);
});
// One without a task waits for it.
if (workerData !== null) begin(workerData as WorkerTask);

function begin(task: WorkerTask): void {
  hasTask = true;
  // What the thread has to do keeps it alive, not that.
  parentPort?.unref();
  switch (task.kind) {
    case "save":
      saveMemory(task);
      break;
    case "load":
      loadMemory(task);
      break;
    case "send":
      void sendMemory(task);
      break;
    case "receive":
      receiveMemory(task);
      break;
    case "digest":
      void digestImage(task);
      break;
  }
}
