import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { FakeObject } from "../../../operator/src/runtime/testing/fake-api-server.ts";
import { until } from "../../../operator/src/runtime/testing/until.ts";
import type { Machine } from "../cluster/machines.ts";
import { exitCodes } from "../exit-codes.ts";
import { TestCli } from "../testing/cli.ts";
import { condition, launcherPod, machine, POD_UID } from "../testing/fixtures.ts";

describe("kubectl vm start, stop, pause, resume and restart", () => {
  let cli: TestCli;
  beforeEach(async () => {
    cli = await TestCli.start();
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  const spec = (name = "web") => cli.api.read<Machine>("virtualmachines", "team-a", name)?.spec;
  const writes = () => cli.api.requests.filter(({ isWrite }) => isWrite);
  const halted = () => machine("web", { spec: { runStrategy: "Halted" }, status: { phase: "Stopped" } });

  it("stop writes Halted as the field manager kubectl-vm, and nothing else", async () => {
    cli.api.write("virtualmachines", machine());
    expect(await cli.run("stop", "web")).toEqual({
      code: exitCodes.ok,
      stdout: "virtualmachine.typevisor.io/web stopped\n",
      stderr: "",
    });
    expect(writes()).toHaveLength(1);
    expect(writes()[0]?.query.get("fieldManager")).toBe("kubectl-vm");
    expect(writes()[0]?.body).toMatchObject({ spec: { runStrategy: "Halted" } });
    expect(spec()).toMatchObject({ runStrategy: "Halted", paused: false, memory: { size: "1Gi" } });
  });

  it("stop says how to get a strategy back that start would not choose", async () => {
    cli.api.write("virtualmachines", machine("web", { spec: { runStrategy: "RerunOnFailure" } }));
    expect((await cli.run("stop", "web")).stderr).toContain("kubectl vm start web --strategy RerunOnFailure");
  });

  it("stop leaves alone what is stopped", async () => {
    cli.api.write("virtualmachines", halted());
    expect((await cli.run("stop", "web")).stdout).toContain("is stopped already");
    expect(writes()).toEqual([]);
  });

  it("start sets Always where nothing else is asked for", async () => {
    cli.api.write("virtualmachines", halted());
    expect((await cli.run("start", "web")).code).toBe(exitCodes.ok);
    expect(spec()?.runStrategy).toBe("Always");
  });

  it("start sets the strategy and the pause that are asked for", async () => {
    cli.api.write("virtualmachines", halted());
    await cli.run("start", "web", "--strategy", "Once", "--paused");
    expect(spec()).toMatchObject({ runStrategy: "Once", paused: true });
  });

  it("start brings back what has ended, by way of Halted", async () => {
    const over = [condition("Ready", "True", "Completed", "The guest powered itself off")];
    cli.api.write(
      "virtualmachines",
      machine("web", { spec: { runStrategy: "Once" }, status: { phase: "Stopped", conditions: over } }),
    );
    const starting = cli.run("start", "web");
    await until(() => spec()?.runStrategy === "Halted");
    cli.api.edit<Machine & FakeObject>("virtualmachines", "team-a", "web", (vm) => {
      Object.assign(vm.status ?? {}, {
        observedGeneration: vm.metadata.generation,
        conditions: [condition("Ready", "True", "Halted")],
      });
    });
    expect((await starting).code).toBe(exitCodes.ok);
    expect(spec()?.runStrategy).toBe("Once");
  });

  it.each([
    ["pause", true],
    ["resume", false],
  ])("%s sets spec.paused to %s", async (command, paused) => {
    cli.api.write("virtualmachines", machine("web", { spec: { paused: !paused } }));
    expect((await cli.run(command, "web")).code).toBe(exitCodes.ok);
    expect(spec()?.paused).toBe(paused);
  });

  it("restart deletes the pod it has seen, gracefully, and writes no spec", async () => {
    cli.api.write("virtualmachines", machine());
    cli.api.write("pods", launcherPod());
    expect((await cli.run("restart", "web")).stdout).toContain("restarted");
    const [request, ...others] = writes();
    expect(others).toEqual([]);
    expect(request).toMatchObject({ method: "DELETE", plural: "pods", name: "vm-web" });
    expect(request?.body).toMatchObject({ preconditions: { uid: POD_UID } });
    expect(request?.body?.["gracePeriodSeconds"]).toBeUndefined();
  });

  it.each([
    ["Halted", "kubectl vm start web"],
    ["Once", "kubectl vm stop web"],
  ])("restart refuses a machine with runStrategy %s, and says what to do", async (runStrategy, advice) => {
    cli.api.write("virtualmachines", machine("web", { spec: { runStrategy } }));
    cli.api.write("pods", launcherPod());
    const { code, stderr } = await cli.run("restart", "web");
    expect(code).toBe(exitCodes.failed);
    expect(stderr).toContain(advice);
    expect(cli.api.read("pods", "team-a", "vm-web")).toBeDefined();
  });

  describe("where somebody declares the field", () => {
    const declared = (manager: string, operation: string) =>
      machine("web", {
        metadata: { managedFields: [{ manager, operation, fieldsV1: { "f:spec": { "f:runStrategy": {} } } }] },
      });

    it.each([
      ["kustomize-controller", "Apply"],
      ["kubectl", "Apply"],
      ["argocd-controller", "Update"],
    ])("refuses to fight %s (%s) unless forced", async (manager, operation) => {
      cli.api.write("virtualmachines", declared(manager, operation));
      const { code, stderr } = await cli.run("stop", "web");
      expect(code).toBe(exitCodes.failed);
      expect(stderr).toContain(`spec.runStrategy of web is declared by ${manager}`);
      expect(stderr).toContain("--force");
      expect(writes()).toEqual([]);
      expect((await cli.run("stop", "web", "--force")).code).toBe(exitCodes.ok);
      expect(spec()?.runStrategy).toBe("Halted");
    });

    it.each([
      ["kubectl-client-side-apply", "Update"],
      ["kubectl-vm", "Update"],
    ])("writes as kubectl patch would where it was %s (%s)", async (manager, operation) => {
      cli.api.write("virtualmachines", declared(manager, operation));
      expect((await cli.run("stop", "web")).code).toBe(exitCodes.ok);
    });

    it("writes another field of the same machine", async () => {
      cli.api.write("virtualmachines", declared("kustomize-controller", "Apply"));
      expect((await cli.run("pause", "web")).code).toBe(exitCodes.ok);
    });
  });

  describe("with --wait", () => {
    it("ends once the operator has seen the spec and the machine is as asked", async () => {
      cli.api.write("virtualmachines", halted());
      let ended = false;
      const starting = cli.run("start", "web", "--wait").finally(() => {
        ended = true;
      });
      await until(() => cli.api.watcherCount > 0);
      const settle = (status: object) =>
        cli.api.edit<Machine & FakeObject>("virtualmachines", "team-a", "web", (vm) =>
          Object.assign(vm.status ?? {}, status),
        );
      settle({ phase: "Running" });
      await until(() => cli.api.requests.filter(({ isWatch }) => isWatch).length > 1);
      expect(ended).toBe(false);
      settle({ phase: "Running", observedGeneration: 2 });
      expect((await starting).code).toBe(exitCodes.ok);
    });

    it("ends with the reason where only a change helps", async () => {
      const stalled = [condition("Ready", "False", "ClaimNotFound", "claim a is missing")];
      cli.api.write("virtualmachines", halted());
      const starting = cli.run("start", "web", "--wait");
      await until(() => cli.api.watcherCount > 0);
      cli.api.edit<Machine & FakeObject>("virtualmachines", "team-a", "web", (vm) =>
        Object.assign(vm.status ?? {}, {
          observedGeneration: 2,
          conditions: [...stalled, condition("Stalled", "True", "ClaimNotFound", "claim a is missing")],
        }),
      );
      expect(await starting).toMatchObject({
        code: exitCodes.failed,
        stderr: expect.stringContaining("claim a is missing"),
      });
    });

    it("ends with a code of its own when the time is over", async () => {
      cli.api.write("virtualmachines", halted());
      const { code, stderr } = await cli.run("start", "web", "--wait", "--timeout", "50ms");
      expect(code).toBe(exitCodes.timeout);
      expect(stderr).toContain("it is Stopped: The guest runs");
    });
  });

  it("acts on all machines of a selector, and tells of each that fails", async () => {
    cli.api.write("virtualmachines", machine("a", { metadata: { labels: { tier: "x" } } }));
    cli.api.write("virtualmachines", machine("b", { metadata: { labels: { tier: "x" } } }));
    cli.api.write("virtualmachines", machine("c"));
    expect((await cli.run("pause", "-l", "tier=x")).code).toBe(exitCodes.ok);
    expect([spec("a"), spec("b"), spec("c")].map((each) => each?.paused)).toEqual([true, true, false]);
    expect((await cli.run("pause", "-l", "tier=none")).code).toBe(exitCodes.notFound);
    expect((await cli.run("restart", "a", "b")).stderr.match(/has no pod/g)).toHaveLength(2);
  });

  it("prints the objects for programs", async () => {
    cli.api.write("virtualmachines", machine());
    const { stdout } = await cli.run("pause", "web", "-o", "json");
    expect(JSON.parse(stdout)).toMatchObject({ kind: "VirtualMachine", spec: { paused: true } });
    expect((await cli.run("resume", "web", "-o", "name")).stdout).toBe("virtualmachine.typevisor.io/web\n");
    expect((await cli.run("resume", "web", "-o", "wide")).stdout).toMatch(
      /^NAME +PHASE +READY +NODE +IP .*\nweb +Running +True +node-1 +10\.244\.0\.12 +Always +no +1\n$/,
    );
    expect((await cli.run("resume", "web", "-o", "yaml")).stdout).toContain("kind: VirtualMachine\n");
  });
});
