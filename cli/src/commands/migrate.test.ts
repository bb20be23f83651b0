import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { StoredMigration } from "../../../operator/src/controllers/virtualmachinemigration/stored.ts";
import type { FakeObject } from "../../../operator/src/runtime/testing/fake-api-server.ts";
import { until } from "../../../operator/src/runtime/testing/until.ts";
import { exitCodes } from "../exit-codes.ts";
import { TestCli } from "../testing/cli.ts";
import { condition, machine } from "../testing/fixtures.ts";

describe("kubectl vm migrate and cancel-migration", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
    cli.api.write("virtualmachines", machine());
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  const migrations = () => cli.api.all("virtualmachinemigrations") as unknown as StoredMigration[];
  const settle = (name: string, phase: "Succeeded" | "Failed", message: string) =>
    cli.api.edit<StoredMigration & FakeObject>("virtualmachinemigrations", "team-a", name, (copy) => {
      copy.status = { phase, target: { node: "node-2" }, conditions: [condition("Ready", "False", phase, message)] };
    });
  const begin = async () => {
    await cli.run("migrate", "web");
    return migrations()[0]?.metadata.name ?? "";
  };

  it("migrate makes an object that moves the machine, and says its name", async () => {
    const { code, stdout } = await cli.run("migrate", "web");
    expect(code).toBe(exitCodes.ok);
    const [made, ...others] = migrations();
    expect(others).toEqual([]);
    expect(made?.spec).toEqual({ virtualMachineName: "web" });
    expect(stdout).toBe(`virtualmachinemigration.typevisor.io/${made?.metadata.name} created\n`);
  });

  it("migrate hands on where to and how fast", async () => {
    await cli.run("migrate", "web", "--to", "node-2", "--allow-source-node", "--bandwidth", "100Mi");
    const target = { nodeName: "node-2", allowSourceNode: true };
    expect(migrations()[0]?.spec).toEqual({ virtualMachineName: "web", target, bandwidth: "100Mi" });
  });

  it("migrate hands on which claims disks move to, and how long what may take", async () => {
    const disks = ["root", "data"].map((name) => ({ name, persistentVolumeClaim: { claimName: name } }));
    cli.api.write("virtualmachines", machine("db", { spec: { disks } }));
    const claims = ["--target-claim", "root=root-2", "--target-claim=data=data-2"];
    await cli.run("migrate", "db", ...claims, "--max-downtime", "50ms", "--deadline", "90s");
    expect(migrations()[0]?.spec).toEqual({
      virtualMachineName: "db",
      targetClaims: [
        { disk: "root", claimName: "root-2" },
        { disk: "data", claimName: "data-2" },
      ],
      maxDowntimeMilliseconds: 50,
      deadlineSeconds: 90,
    });
  });

  it("migrate moves a machine that needs other claims where they are named, and says how where they are not", async () => {
    const disks = [{ name: "root", persistentVolumeClaim: { claimName: "root" } }];
    const conditions = [condition("Migratable", "False", "TargetClaimsNeeded", "Disk root is on claim root")];
    cli.api.write("virtualmachines", machine("db", { spec: { disks }, status: { phase: "Running", conditions } }));
    const refused = await cli.run("migrate", "db");
    expect(refused.code).toBe(exitCodes.failed);
    expect(refused.stderr).toContain("Disk root is on claim root: --target-claim DISK=CLAIM");
    expect(migrations()).toEqual([]);
    expect((await cli.run("migrate", "db", "--target-claim", "root=root-2")).code).toBe(exitCodes.ok);
    expect(migrations()).toHaveLength(1);
  });

  it.each([
    ["a word without a claim", ["web", "--target-claim", "root="], "write DISK=CLAIM"],
    ["two claims of one disk", ["web", "--target-claim=a=b", "--target-claim=a=c"], "disk a has a claim already"],
    ["one claim for two disks", ["web", "--target-claim=a=c", "--target-claim=b=c"], "claim c is another disk's"],
    [
      "claims for two machines",
      ["web", "db", "--target-claim=a=b"],
      "--target-claim goes with the name of one machine",
    ],
    [
      "claims for all of a label",
      ["-l", "app", "--target-claim=a=b"],
      "--target-claim goes with the name of one machine",
    ],
    ["a downtime of minutes", ["web", "--max-downtime", "2m"], "write a duration of 1ms to 60s"],
    ["a deadline of no time", ["web", "--deadline", "1ms"], "write a duration of 1s to 168h"],
  ])("migrate refuses %s, and names the flag", async (_what, words, why) => {
    const { code, stderr } = await cli.run("migrate", ...words);
    expect(code).toBe(exitCodes.usage);
    expect(stderr).toContain(words.find((word) => word.startsWith("--"))?.split("=")[0]);
    expect(stderr).toContain(why);
    expect(migrations()).toEqual([]);
  });

  it("migrate refuses a claim for a disk that the machine does not have", async () => {
    const { code, stderr } = await cli.run("migrate", "web", "--target-claim", "rot=root-2");
    expect(code).toBe(exitCodes.failed);
    expect(stderr).toContain("--target-claim rot=root-2 names a disk that it does not have; it has none");
    expect(migrations()).toEqual([]);
  });

  it("migrate refuses a machine that cannot move, with the machine's own word", async () => {
    const conditions = [condition("Migratable", "False", "DiskNotMigratable", "Disk data is on claim data")];
    cli.api.write("virtualmachines", machine("db", { status: { phase: "Running", conditions } }));
    const { code, stderr } = await cli.run("migrate", "db");
    expect(code).toBe(exitCodes.failed);
    expect(stderr).toContain("db cannot move: Disk data is on claim data");
    expect(migrations()).toEqual([]);
  });

  it.each([
    ["Succeeded", exitCodes.ok, "web moved to node node-2"],
    ["Failed", exitCodes.failed, "web has not moved: the target refuses"],
  ] as const)("migrate --wait ends when the migration has %s", async (phase, code, words) => {
    const waiting = cli.run("migrate", "web", "--wait");
    await until(() => migrations().length === 1);
    settle(migrations()[0]?.metadata.name ?? "", phase, "the target refuses");
    const outcome = await waiting;
    expect(outcome.code).toBe(code);
    expect(outcome.stdout + outcome.stderr).toContain(words);
  });

  it("migrate --wait says how far it is when its time is over, and leaves it", async () => {
    const { code, stderr } = await cli.run("migrate", "web", "--wait", "--timeout", "1s");
    expect(code).toBe(exitCodes.timeout);
    expect(stderr).toMatch(/waited 1 s in vain for web-\w+, which is Pending and goes on/);
    expect(migrations()).toHaveLength(1);
  });

  it("cancel-migration deletes what is not over, and nothing else", async () => {
    const name = await begin();
    const rest = { status: { phase: "Succeeded" }, spec: { virtualMachineName: "web" } };
    cli.api.write("virtualmachinemigrations", { metadata: { name: "old", namespace: "team-a" }, ...rest } as object);
    const other = { metadata: { name: "other", namespace: "team-a" }, spec: { virtualMachineName: "db" } };
    cli.api.write("virtualmachinemigrations", other as object);
    const { code, stdout } = await cli.run("cancel-migration", "web", "--wait");
    expect([code, stdout]).toEqual([exitCodes.ok, `virtualmachinemigration.typevisor.io/${name} is being cancelled\n`]);
    expect(migrations().map(({ metadata }) => metadata.name)).toEqual(["old", "other"]);
  });

  it.each([
    ["stays", "vm-web", ""],
    ["had moved", "vm2-web", "web had moved before the word came\n"],
  ])("cancel-migration --wait ends when the machine has one pod again, and it %s", async (_what, podName, words) => {
    const name = await begin();
    const status = { phase: "Migrating", podName: "vm-web", migration: { name, phase: "Copying" } };
    cli.api.write("virtualmachines", machine("web", { status }));
    const waiting = cli.run("cancel-migration", "web", "--wait");
    let isOver = false;
    void waiting.then(() => {
      isOver = true;
    });
    await until(() => migrations().length === 0);
    await until(() => cli.api.requests.some(({ isWatch, plural }) => isWatch && plural === "virtualmachines"));
    expect(isOver).toBe(false);
    cli.api.write("virtualmachines", machine("web", { status: { phase: "Running", podName } }));
    expect(await waiting).toMatchObject({ code: exitCodes.ok, stderr: words });
  });

  it("cancel-migration says where there is nothing to cancel", async () => {
    const { code, stderr } = await cli.run("cancel-migration", "web");
    expect(code).toBe(exitCodes.notFound);
    expect(stderr).toContain("web does not move");
  });
});
