import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { StoredMigration } from "../../../operator/src/controllers/virtualmachinemigration/stored.ts";
import type { FakeObject } from "../../../operator/src/runtime/testing/fake-api-server.ts";
import { until } from "../../../operator/src/runtime/testing/until.ts";
import { exitCodes } from "../exit-codes.ts";
import { TestCli } from "../testing/cli.ts";
import { condition, machine } from "../testing/fixtures.ts";

const OUTDATED = condition("RestartRequired", "True", "LauncherOutdated", "another launcher is installed");
const CURRENT = condition("RestartRequired", "False", "AsExpected");

describe("kubectl vm migrate --outdated", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  /** A machine that runs, in that namespace, with these conditions. */
  function write(
    name: string,
    conditions: unknown[] = [OUTDATED],
    { namespace = "team-a", migration = {} } = {},
  ): void {
    const status = { conditions, ...(Object.keys(migration).length === 0 ? {} : { migration }) };
    const uid = `uid-of-${namespace}-${name}`;
    cli.api.write("virtualmachines", machine(name, { metadata: { name, namespace, uid }, status }));
  }
  const migrations = () => cli.api.all("virtualmachinemigrations") as unknown as StoredMigration[];
  const ofMachine = (name: string) => migrations().find(({ spec }) => spec.virtualMachineName === name);
  const moving = () =>
    migrations().flatMap(({ spec, status }) => (status?.phase === undefined ? [spec.virtualMachineName] : []));
  async function settle(machineName: string, phase: "Succeeded" | "Failed" = "Succeeded"): Promise<void> {
    await until(() => ofMachine(machineName) !== undefined);
    const { name = "", namespace = "" } = ofMachine(machineName)?.metadata ?? {};
    cli.api.edit<StoredMigration & FakeObject>("virtualmachinemigrations", namespace, name, (copy) => {
      copy.status = { phase, target: { node: "node-2" }, conditions: [condition("Ready", "False", phase, "no room")] };
    });
  }

  it("moves those in an outdated launcher and no others, behind everything else, and tells of each", async () => {
    write("old");
    write("new", [CURRENT]);
    write("changed", [condition("RestartRequired", "True", "SpecChanged", "launcher image, spec.cpu.cores")]);
    write("elsewhere", [OUTDATED], { namespace: "team-b" });
    const running = cli.run("migrate", "--outdated", "--bandwidth", "100Mi");
    await settle("old");
    expect(await running).toEqual({ code: exitCodes.ok, stdout: "team-a/old moved to node node-2\n", stderr: "" });
    expect(migrations().map(({ spec }) => spec)).toEqual([
      { virtualMachineName: "old", priority: "Maintenance", bandwidth: "100Mi" },
    ]);
  });

  it("has no more of them under way than it is told, and goes on after one that fails, which its exit code tells", async () => {
    for (const name of ["a", "b", "c"]) write(name);
    write("d", [OUTDATED], { namespace: "team-b" });
    const running = cli.run("migrate", "--outdated", "--all-namespaces", "--parallel", "2");
    await until(() => moving().length === 2);
    const [first = "", second = ""] = moving();
    await settle(first, "Failed");
    await until(() => migrations().length === 3);
    expect(moving()).toHaveLength(2);
    await settle(second);
    await until(() => migrations().length === 4);
    for (const name of moving()) await settle(name);
    const { code, stdout, stderr } = await running;
    expect(code).toBe(exitCodes.failed);
    expect(stdout.split("\n").filter((line) => / moved to node node-2$/.test(line))).toHaveLength(3);
    expect(stdout).toContain("team-b/d moved");
    expect(stderr).toContain(`error: team-a/${first}: ${first} has not moved: no room\n`);
    expect(stderr).toContain("1 of 4 machines in the cluster have not moved");
  });

  it("says of one that cannot move why, and moves the others", async () => {
    write("bound", [
      OUTDATED,
      condition("Migratable", "False", "InterfaceNotMigratable", "Interface default is podIP"),
    ]);
    write("old");
    const running = cli.run("migrate", "--outdated");
    await settle("old");
    const { code, stdout, stderr } = await running;
    expect([code, stdout]).toEqual([exitCodes.failed, "team-a/old moved to node node-2\n"]);
    expect(stderr).toContain("team-a/bound: bound cannot move: Interface default is podIP");
    expect(ofMachine("bound")).toBeUndefined();
  });

  it("waits for one that moves already, instead of moving it twice", async () => {
    write("old", [OUTDATED], { migration: { name: "drained", phase: "Copying" } });
    const metadata = { name: "drained", namespace: "team-a" };
    cli.api.write("virtualmachinemigrations", { metadata, spec: { virtualMachineName: "old" } } as object);
    const running = cli.run("migrate", "--outdated");
    await until(() => cli.api.requests.some(({ isWatch, plural }) => isWatch && plural === "virtualmachinemigrations"));
    await settle("old");
    expect(await running).toMatchObject({ code: exitCodes.ok, stdout: "team-a/old moved to node node-2\n" });
    expect(migrations()).toHaveLength(1);
  });

  it("looks at each again when its turn comes: somebody may have restarted it", async () => {
    for (const name of ["a", "b"]) write(name);
    const running = cli.run("migrate", "--outdated", "--parallel", "1");
    await until(() => migrations().length === 1);
    const [first = ""] = moving();
    const other = first === "a" ? "b" : "a";
    write(other, [CURRENT]);
    await settle(first);
    const { code, stdout } = await running;
    expect(code).toBe(exitCodes.ok);
    expect(stdout).toContain(`team-a/${other} is in no outdated launcher any more\n`);
    expect(migrations()).toHaveLength(1);
  });

  it("is content where there are none, and says so", async () => {
    write("new", [CURRENT]);
    const { code, stdout } = await cli.run("migrate", "--outdated", "-l", "app");
    expect([code, stdout]).toEqual([exitCodes.ok, "no machine in namespace team-a runs in an outdated launcher\n"]);
  });

  it.each([
    ["names", ["web", "--outdated"], "--outdated finds the machines itself"],
    ["claims", ["--outdated", "--target-claim=a=b"], "--target-claim goes with the name of one machine"],
    ["all namespaces without it", ["web", "--all-namespaces"], "--all-namespaces goes with --outdated"],
    ["none at a time", ["--outdated", "--parallel", "0"], "whole number of 1 or more"],
  ])("refuses %s", async (_what, words, why) => {
    write("web");
    const { code, stderr } = await cli.run("migrate", ...words);
    expect(code).toBe(exitCodes.usage);
    expect(stderr).toContain(why);
    expect(migrations()).toEqual([]);
  });
});
