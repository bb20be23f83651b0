import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { TestCli } from "../testing/cli.ts";
import { machine } from "../testing/fixtures.ts";

describe("completion", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
    for (const name of ["web", "worker", "db"]) cli.api.write("virtualmachines", machine(name));
    cli.api.write("namespaces", { metadata: { name: "team-a" } });
    cli.api.write("nodes", { metadata: { name: "node-2" } });
    const on = (name: string, claimName: string) => ({ name, persistentVolumeClaim: { claimName } });
    const disks = [on("root", "root-1"), { name: "scratch", emptyDisk: { size: "1Gi" } }, on("data", "data-1")];
    cli.api.write("virtualmachines", machine("full", { spec: { disks } }));
    for (const name of ["root-1", "data-1", "spare"])
      cli.api.write("persistentvolumeclaims", { metadata: { name, namespace: "team-a" } });
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  /** Candidates without what is said about them, and the directive. */
  const complete = async (...words: string[]) =>
    (await cli.run("__complete", "--", ...words)).stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t")[0]);

  it.each([
    [["re"], ["restart", "resume", ":4"]],
    [
      ["stop", "w"],
      ["web", "worker", ":4"],
    ],
    [
      ["stop", "web", ""],
      ["worker", "db", "full", ":4"],
    ],
    [["console", "web", ""], [":4"]],
    [
      ["migrate", "web", "--to", ""],
      ["node-2", ":4"],
    ],
    [
      ["migrate", "full", "--target-claim", ""],
      ["root=spare", "data=spare", ":4"],
    ],
    [
      ["migrate", "full", "--target-claim", "data=s"],
      ["data=spare", ":4"],
    ],
    [["migrate", "gone", "--target-claim", ""], [":4"]],
    [
      ["ssh", "root@d"],
      ["root@db", ":4"],
    ],
    [
      ["start", "--strategy", "O"],
      ["Once", ":4"],
    ],
    [
      ["stop", "-n", "team"],
      ["team-a", ":4"],
    ],
    [
      ["describe", "--context", ""],
      ["fake", "other", ":4"],
    ],
    [["describe", "--kubeconfig", ""], [":0"]],
    [
      ["completion", ""],
      ["bash", "zsh", ":4"],
    ],
    [
      ["top", "--so"],
      ["--sort-by", ":4"],
    ],
    [["logs", "--tail", ""], [":4"]],
  ])("of %j offers %j", async (words, offered) => {
    expect(await complete(...words)).toEqual(offered);
  });

  it("looks for machines in the namespace that is typed", async () => {
    cli.api.write("virtualmachines", machine("far", { metadata: { namespace: "team-b" } }));
    expect(await complete("stop", "--namespace=team-b", "")).toEqual(["far", ":4"]);
    expect(await complete("-n", "team-b", "stop", "")).toEqual(["far", ":4"]);
  });

  it("offers nothing, and says nothing, where the cluster cannot be asked", async () => {
    cli.api.intercept = () => ({ kind: "drop-before" });
    expect(await cli.run("__complete", "--", "stop", "")).toEqual({ code: 0, stdout: ":4\n", stderr: "" });
  });

  it("works in bash", async () => {
    const directory = mkdtempSync(join(tmpdir(), "kubectl-vm-completion-"));
    try {
      const program = join(directory, "kubectl-vm");
      writeFileSync(program, '#!/bin/sh\n[ "$*" = "__complete -- stop w" ] && printf "web\\tabout\\nworker\\n:4\\n"\n');
      chmodSync(program, 0o755);
      const script = `${(await cli.run("completion", "bash")).stdout}
COMP_WORDS=(kubectl-vm stop w); COMP_CWORD=2; _kubectl_vm; printf '%s,' "\${COMPREPLY[@]}"`;
      const env = { ...process.env, PATH: `${directory}:${process.env["PATH"]}` };
      expect(execFileSync("bash", ["-c", script], { env, encoding: "utf8" })).toBe("web,worker,");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("has a script for zsh as well", async () => {
    expect((await cli.run("completion", "zsh")).stdout).toMatch(/^#compdef kubectl-vm\n/);
  });
});
