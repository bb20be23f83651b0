import { createServer, type Server } from "node:net";
import { say, waitFor } from "./step.ts";

/**
 * Runs `work` while no other process on this machine (in this network namespace) holds the lock of that name.
 * The lock is an abstract unix socket: the kernel frees it when its holder ends, however it ends.
 */
export async function withLock<T>(name: string, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  let told = false;
  const server = await waitFor(
    async () => {
      const taken = await listen(`\0typevisor-lock/${name}`);
      if (!taken && !told) say(`Waiting for another command that holds '${name}' ...`);
      told = true;
      return taken;
    },
    { what: `the lock '${name}'`, timeoutMs, intervalMs: 250 },
  );
  try {
    return await work();
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

function listen(address: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once("listening", () => resolve(server));
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(address);
  });
}
