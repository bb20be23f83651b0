import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type TLSSocket } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { type KeyAndCertificate, TestAuthority } from "../testing/certificates.ts";
import { ControlLink } from "./control-link.ts";
import { encodeFrame, type Frame, FrameReader } from "./protocol.ts";
import { tlsOptions } from "./tls.ts";

let authority: TestAuthority;
let own: KeyAndCertificate;
let server: Server;
beforeEach(async () => {
  authority ??= await TestAuthority.create();
  own ??= await authority.issue("CN=machine-1");
  // The other side keeps its half open, as one does that has not read to the end yet.
  server = createServer({ ...tlsOptions({ ...own, ca: authority.certificate }), allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterEach(() => void server.close());

/** The socket of a link, and the other side's. */
async function joined(): Promise<{ here: TLSSocket; there: TLSSocket }> {
  const { port } = server.address() as AddressInfo;
  const here = connect({
    port,
    host: "127.0.0.1",
    ...tlsOptions({ ...own, ca: authority.certificate }),
    checkServerIdentity: () => undefined,
  });
  const [there] = (await once(server, "secureConnection")) as [TLSSocket];
  return { here, there };
}

const PASS = encodeFrame("passReceived", { pass: 1 });

describe("a control connection that is ended", () => {
  it("brings its last words to a side that is still sending, and ends when that has closed", async () => {
    const { here, there } = await joined();
    let lost = "";
    const heard: Frame[] = [];
    let ended: Promise<void> | undefined;
    const link = new ControlLink(here, {
      received: (frame) => {
        heard.push(frame);
        link.send("refused", { message: "it does not fit" });
        ended = link.end();
      },
      lost: (why) => {
        lost = why;
      },
    });
    const reader = new FrameReader();
    const said: Frame[] = [];
    there.on("data", (chunk: Buffer) => said.push(...reader.push(chunk)));
    const allSaid = once(there, "end");
    // All of it is on its way before the first is heard.
    for (let i = 0; i < 1000; i++) there.write(PASS);
    await allSaid;
    expect(said).toEqual([{ name: "refused", payload: { message: "it does not fit" } }]);
    let isOver = false;
    void ended?.then(() => {
      isOver = true;
    });
    there.write(PASS);
    await new Promise((turn) => setImmediate(turn));
    expect([isOver, lost]).toEqual([false, ""]);
    there.end();
    await ended;
    expect([heard.length, lost]).toEqual([1, "the other launcher closed the connection"]);
    await link.end();
  });

  it("does not wait for ever for a side that does not close", async () => {
    const { here, there } = await joined();
    const link = new ControlLink(here, { received() {}, lost() {} });
    there.on("error", () => {});
    await link.end();
    expect(here.destroyed).toBe(true);
    there.destroy();
  });
});
