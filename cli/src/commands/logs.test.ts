import { describe, expect, it } from "@jest/globals";
import { exitCodes } from "../exit-codes.ts";
import { TestCli } from "../testing/cli.ts";
import { launcherPod, machine } from "../testing/fixtures.ts";

describe("kubectl vm logs", () => {
  it("shows the launcher's log, as much as is asked for", async () => {
    await using cli = await TestCli.start();
    cli.api.write("virtualmachines", machine());
    cli.api.write("pods", launcherPod());
    cli.api.intercept = ({ subresource }) => (subresource === "log" ? { kind: "text", text: '{"a":1}\n' } : undefined);
    const { code, stdout } = await cli.run("logs", "web", "-f", "--tail", "5", "--since", "90s");
    expect({ code, stdout }).toEqual({ code: exitCodes.ok, stdout: '{"a":1}\n' });
    const query = cli.api.requests.at(-1)?.query;
    expect(Object.fromEntries(query ?? [])).toEqual({
      container: "launcher",
      follow: "true",
      tailLines: "5",
      sinceSeconds: "90",
    });
  });

  it("says that a machine without a pod has no log", async () => {
    await using cli = await TestCli.start();
    cli.api.write("virtualmachines", machine("web", { status: { phase: "Stopped" } }));
    const { code, stderr } = await cli.run("logs", "web");
    expect(code).toBe(exitCodes.notFound);
    expect(stderr).toContain("web has no pod, and so no log; it is Stopped");
  });
});
