import { existsSync } from "node:fs";
import { describe, expect, it } from "@jest/globals";
import { startApiServer } from "./apiserver.ts";

const timeoutMs = 30 * 60_000;

describe("startApiServer", () => {
  it(
    "keeps its objects over a restart, and leaves nothing behind",
    async () => {
      let kubeconfig: string;
      let answers: () => Promise<unknown>;
      {
        await using server = await startApiServer();
        kubeconfig = server.kubeconfig;
        answers = () => server.request("GET", "/readyz");
        await server.kubectl(["create", "namespace", "kept"]);
        await server.restart();
        expect(await server.request("GET", "/api/v1/namespaces/kept")).toMatchObject({ status: 200 });
        expect(await server.request("GET", "/api/v1/namespaces/other")).toMatchObject({
          status: 404,
          body: { kind: "Status", reason: "NotFound" },
        });
      }
      expect(existsSync(kubeconfig)).toBe(false);
      await expect(answers()).rejects.toThrow("ECONNREFUSED");
    },
    timeoutMs,
  );

  it(
    "lets a test act as another user",
    async () => {
      await using server = await startApiServer();
      const asNobody = await server.request("GET", "/api/v1/secrets", { impersonate: "nobody" });
      expect(asNobody).toMatchObject({ status: 403, body: { reason: "Forbidden" } });
    },
    timeoutMs,
  );
});
