import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { exitCodes } from "../exit-codes.ts";
import { TestCli } from "../testing/cli.ts";
import { launcherPod, machine } from "../testing/fixtures.ts";
import { parseTarget } from "./ssh.ts";

describe("kubectl vm ssh", () => {
  it("runs ssh with this program as its connection, quoted for the shell, and ends with its exit code", async () => {
    await using cli = await TestCli.start();
    cli.api.write("virtualmachines", machine());
    cli.api.write("pods", launcherPod());
    const directory = mkdtempSync(join(tmpdir(), "kubectl-vm-ssh-"));
    try {
      const program = join(directory, "ssh");
      writeFileSync(program, `#!/bin/sh\nprintf '%s\\n' "$@" > ${directory}/args\nexit 42\n`);
      chmodSync(program, 0o755);
      const { code } = await cli.run(
        "ssh",
        "--ssh",
        program,
        "-i",
        "key",
        "-p",
        "2222",
        "root@web",
        "--",
        "uname",
        "-a",
      );
      expect(code).toBe(42);
      expect(readFileSync(join(directory, "args"), "utf8").split("\n")).toEqual([
        "-o",
        "ProxyCommand=/usr/bin/node '/opt/kubectl vm/kubectl-vm.js' port-forward --stdio --namespace team-a -- web 2222",
        "-o",
        "HostKeyAlias=vm.web.team-a",
        "-i",
        "key",
        "-l",
        "root",
        "--",
        "vm.web.team-a",
        "uname",
        "-a",
        "",
      ]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("says what to install where there is no ssh", async () => {
    await using cli = await TestCli.start();
    cli.api.write("virtualmachines", machine());
    cli.api.write("pods", launcherPod());
    const { code, stderr } = await cli.run("ssh", "--ssh", "/nonexistent/ssh", "web");
    expect(code).toBe(exitCodes.failed);
    expect(stderr).toContain("install an OpenSSH client");
  });

  it("takes users with an @ of their own", () => {
    expect(parseTarget("a@b@web")).toEqual({ user: "a@b", name: "web" });
    expect(parseTarget("web")).toEqual({ name: "web" });
  });
});
