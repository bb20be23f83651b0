import { createServer, type Server } from "node:net";

/** Above what services use, and below NodePorts and what the kernel hands out for connections. */
const LOWEST = 20_000;
const HIGHEST = 29_999;

/**
 * `count` ports in a row that nobody listens on at 127.0.0.1, for a process that is told its port. A port from the
 * kernel's own range could go to somebody's connection before that process listens.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  for (;;) {
    const first = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST - count));
    const ports = Array.from({ length: count }, (_, index) => first + index);
    const servers = await Promise.all(ports.map(listen));
    await Promise.all(servers.map((server) => server && close(server)));
    if (servers.every((server) => server !== null)) return ports;
  }
}

function listen(port: number): Promise<Server | null> {
  const { promise, resolve } = Promise.withResolvers<Server | null>();
  const server = createServer();
  server.once("error", () => resolve(null));
  server.listen(port, "127.0.0.1", () => resolve(server));
  return promise;
}

function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  return promise;
}
