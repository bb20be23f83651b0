import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { exitCodes } from "./exit-codes.ts";
import { createProgram } from "./program.ts";
import { golden, Screen, TestCli } from "./testing/cli.ts";
import { machine } from "./testing/fixtures.ts";

describe("kubectl vm", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  const refuse = (code: number, reason: string, message: string) => {
    cli.api.intercept = () => ({
      kind: "answer",
      status: { kind: "Status", status: "Failure", code, reason, message },
    });
  };

  it("explains itself and each command; if that is meant, set TYPEVISOR_UPDATE_GOLDEN=true", async () => {
    const screen = new Screen();
    const program = createProgram({ environment: screen.environment({}), ended: () => undefined });
    const pages = [(await cli.run("--help")).stdout];
    for (const command of program.commands.filter((each) => !each.name().startsWith("__")))
      pages.push((await cli.run(command.name(), "--help")).stdout);
    const text = pages.join(`\n${"-".repeat(100)}\n`);
    expect(text).toBe(golden("help.golden.txt", text));
  });

  it.each([
    [["nothing"], "unknown command 'nothing'"],
    [["stop"], "name the machines"],
    [["stop", "a", "-l", "b=c"], "one of both"],
    [["stop", "a", "--timeout", "soon"], "write a duration such as 90s"],
    [["start", "a", "--strategy", "Halted"], "Allowed choices are Always"],
    [["console"], "missing required argument 'machine'"],
    [["logs", "a", "--tail", "-1"], "whole number"],
    [["describe", "a", "-o", "name"], "Allowed choices are json, yaml, wide"],
    [["port-forward", "a", "80:"], "no pair of ports"],
    [["port-forward", "a", "80", "81", "--stdio"], "--stdio takes one port"],
    [["completion", "fish"], "not for fish"],
    [["describe", "a", "--context", "none"], 'no context "none"; it has fake, other'],
    [["describe", "a", "--kubeconfig", "/nonexistent"], "--kubeconfig cannot be read"],
  ])("ends with 2 for wrong usage: %j", async (args, message) => {
    const { code, stdout, stderr } = await cli.run(...args);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: exitCodes.usage, stdout: "" });
    expect(cli.api.requests).toEqual([]);
  });

  it("ends with 3 where there is no such machine, and names its namespace", async () => {
    const { code, stderr } = await cli.run("describe", "nobody");
    expect(code).toBe(exitCodes.notFound);
    expect(stderr).toBe("error: there is no VirtualMachine nobody in namespace team-a; kubectl get vm -A lists all\n");
  });

  it("says that the API is missing where it is", async () => {
    cli.api.intercept = () => ({ kind: "answer", status: { code: 404, message: "404 page not found\n" } });
    const { code, stderr } = await cli.run("describe", "web");
    expect(code).toBe(exitCodes.notFound);
    expect(stderr).toContain("is Typevisor installed? kubectl vm doctor tells");
  });

  it("ends with 4 where a right is missing, in the API server's words", async () => {
    refuse(403, "Forbidden", 'virtualmachines "web" is forbidden: User "x" cannot get');
    expect(await cli.run("describe", "web")).toMatchObject({
      code: exitCodes.forbidden,
      stderr: expect.stringContaining('User "x" cannot get'),
    });
  });

  it("ends with 4 and asks to log in where nobody is known", async () => {
    refuse(401, "Unauthorized", "Unauthorized");
    expect(await cli.run("describe", "web")).toMatchObject({
      code: exitCodes.forbidden,
      stderr: expect.stringContaining("log in again"),
    });
  });

  it("ends with 6 where the API server is silent", async () => {
    cli.api.intercept = () => ({ kind: "drop-before" });
    expect((await cli.run("describe", "web")).code).toBe(exitCodes.unreachable);
  });

  it("takes namespace and context from flags before or behind the command", async () => {
    cli.api.write("virtualmachines", machine("web", { metadata: { namespace: "team-b" } }));
    expect((await cli.run("describe", "web", "-n", "team-b")).code).toBe(exitCodes.ok);
    expect((await cli.run("--namespace", "team-b", "describe", "web")).code).toBe(exitCodes.ok);
    expect((await cli.run("describe", "web", "--context", "other")).stderr).toContain("namespace default");
  });

  it("shows help and ends with 2 where no command is given", async () => {
    const { code, stdout } = await cli.run();
    expect(code).toBe(exitCodes.usage);
    expect(stdout).toContain("Usage: kubectl vm");
  });
});
