import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { layoutOf, nodeIdentity } from "../layout.ts";
import { askMultus, MultusRefused } from "./daemon.ts";
import { multusCertificate, multusSocket, renderMultusConfig } from "./multus.ts";

describe("Multus of a dev cluster", () => {
  it("listens where its plugin looks, and has the certificate that it would ask the cluster for", () => {
    const layout = layoutOf("x");
    const config = JSON.parse(
      renderMultusConfig({ directory: "/state/multus", socketDirectory: dirname(multusSocket(layout)) }),
    );
    expect(config.daemonSocketDir).toBe(config.socketDir);
    expect(multusSocket(layout)).toBe(join(config.socketDir, "multus.sock"));
    expect(config.perNodeCertificate).toMatchObject({ enabled: true, certDir: "/state/multus" });
    expect(multusCertificate(nodeIdentity(1))).toMatchObject({
      commonName: "system:multus:node1",
      organisation: "system:multus",
    });
  });

  describe("is asked for networks", () => {
    let directory: string;
    let socketPath: string;
    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), "multus-test-"));
      socketPath = join(directory, "multus.sock");
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    it("and what it answers is the answer, or the error", async () => {
      const server = createServer(async (request, response) => {
        const body = await text(request);
        response.statusCode = body.includes("bad") ? 400 : 200;
        response.end(`${request.method} ${request.url} ${body}\n`);
      });
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
      try {
        expect(await askMultus(socketPath, "/delegate", { env: {} })).toBe('POST /delegate {"env":{}}\n');
        const refused = askMultus(socketPath, "/delegate", { bad: 1 });
        await expect(refused).rejects.toThrow(new MultusRefused('POST /delegate {"bad":1}'));
      } finally {
        server.close();
      }
    });

    it("and nobody there is an error", async () => {
      await expect(askMultus(socketPath, "/healthz")).rejects.toThrow("ENOENT");
    });
  });
});
