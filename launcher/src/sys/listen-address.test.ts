import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { describe, expect, it } from "@jest/globals";
import { listenOptions } from "./listen-address.ts";

/** At which of the loopback addresses a server answers that listens at `address`. */
async function answersAt(address: string): Promise<string[]> {
  const server = createServer((socket) => socket.end());
  try {
    server.listen(listenOptions({ address, port: 0 }));
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const tried = ["127.0.0.1", "::1"].map(async (host) => {
      const socket = connect(port, host);
      try {
        await once(socket, "connect");
        return [host];
      } catch {
        return [];
      } finally {
        socket.destroy();
      }
    });
    return (await Promise.all(tried)).flat();
  } finally {
    server.close();
  }
}

describe("an address to listen at", () => {
  it("is of both families when it is ::", async () => {
    expect(await answersAt("::")).toEqual(["127.0.0.1", "::1"]);
  });

  it.each(["127.0.0.1", "::1"])("is %s alone", async (address) => {
    expect(await answersAt(address)).toEqual([address]);
  });
});
