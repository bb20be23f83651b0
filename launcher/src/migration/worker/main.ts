/** What a migration's threads run: copying memory, which would hold up the event loop of the machine. */
import { workerData } from "node:worker_threads";
import { digestImage } from "./digest-image.ts";
import { loadMemory, saveMemory } from "./memory-file.ts";
import { receiveMemory } from "./receive-memory.ts";
import { sendMemory } from "./send-memory.ts";
import type { WorkerTask } from "./worker-thread.ts";

const task = workerData as WorkerTask;
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
    digestImage(task);
    break;
}
