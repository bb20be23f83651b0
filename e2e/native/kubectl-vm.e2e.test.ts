import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { CommandError, run } from "../../hack/lib/step.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Kubectl, Session } from "../support/kubectl.ts";
import { TEST_GUEST_READY, testGuest } from "../support/vm.ts";

const built = join(import.meta.dirname, "../../dist/cli");
const NAMESPACE = "kubectl-vm";

describe("kubectl vm", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  const prefix = mkdtempSync(join(tmpdir(), "kubectl-vm-e2e-"));
  const pathBefore = process.env["PATH"];

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    // As a user installs it; it has no dependencies, so that no registry is asked.
    execFileSync("npm", ["install", "--global", "--offline", "--prefix", prefix, built], { stdio: "pipe" });
    process.env["PATH"] = `${join(prefix, "bin")}${delimiter}${pathBefore}`;
    await kubectl.apply(testGuest("web", { runStrategy: "Halted" }));
  });
  afterAll(async () => {
    process.env["PATH"] = pathBefore;
    rmSync(prefix, { recursive: true, force: true });
    await cluster.dropNamespace(NAMESPACE);
  });

  /** kubectl takes flags of a plugin behind its name alone. */
  const argv = (...words: string[]) => {
    const [program = "", kubeconfig = ""] = kubectl.argv();
    return [program, "vm", ...words, kubeconfig, `--namespace=${NAMESPACE}`];
  };
  const vm = (...words: string[]) => run(argv(...words), { timeoutMs: 130_000 });
  const refused = async (...words: string[]) => {
    const failure = await vm(...words).catch((error: unknown) => error);
    if (failure instanceof CommandError) return failure.output;
    throw new Error(`this should have failed: kubectl vm ${words.join(" ")}`);
  };

  it("starts a machine, and tells its story", async () => {
    expect(await vm("start", "web", "--wait")).toContain("virtualmachine.typevisor.io/web started");
    const story = await vm("describe", "web");
    expect(story).toMatch(/^Phase: +Running$/m);
    expect(story).toMatch(/^ +Ready +True +Running /m);
    expect(story).toMatch(/^Pod: +vm-web \(Running, launcher running\)$/m);
    expect(story).toMatch(/VirtualMachine +/);
    expect(JSON.parse(await vm("describe", "web", "-o", "json"))).toMatchObject({
      node: { kind: "Node" },
      missing: [],
    });
  });

  it("joins a pipe to the console, and a terminal, which Ctrl-] leaves", async () => {
    await using pipe = new Session(argv("console", "web"));
    await pipe.expect(TEST_GUEST_READY);
    pipe.write("echo by-pipe\r");
    await pipe.expect(/^by-pipe/m);
    const command = argv("console", "web", "--no-history").join(" ");
    await using terminal = new Session([
      "script",
      "--quiet",
      "--return",
      "--command",
      `${command}; echo code $?`,
      "/dev/null",
    ]);
    await terminal.expect(/attached; Ctrl-\] detaches/);
    terminal.write("echo by-terminal\r");
    await terminal.expect(/^by-terminal/m);
    terminal.write("\u001d");
    await terminal.expect(/detached\s+code 0/);
  });

  it("pauses and resumes", async () => {
    await vm("pause", "web", "--wait");
    expect((await kubectl.get("vm", "web"))?.status.phase).toBe("Paused");
    await vm("resume", "web", "--wait");
    expect((await kubectl.get("vm", "web"))?.status.phase).toBe("Running");
  });

  it("shows figures, the log, and ports of the machine's pod", async () => {
    const [row] = JSON.parse(await vm("top", "-o", "json"));
    expect(row).toMatchObject({ name: "web", vcpus: 1, guestBytes: 32 * 2 ** 20 });
    expect(row.cpu).toBeGreaterThanOrEqual(0);
    const [line = ""] = (await vm("logs", "web", "--tail", "1")).split("\n");
    expect(JSON.parse(line)).toMatchObject({ message: expect.any(String) });
    await using forward = new Session(argv("port-forward", "web", ":10080"));
    const [, port] = await forward.expect(/from 127\.0\.0\.1:(\d+) to web:10080/);
    const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
    expect(await answer.text()).toContain("typevisor_vm_vcpus{");
  });

  it("finds the cluster well", async () => {
    const report = await vm("doctor");
    expect(report).toContain("Nothing keeps machines from running");
    expect(report).toMatch(/^ok +KVM +1 of 1 nodes/m);
    // The node agent has said, whichever it is.
    expect(report).toMatch(/^(ok|warn) +vhost-net/m);
  });

  it("completes by kubectl's own completion", async () => {
    const [program = "", kubeconfig = ""] = kubectl.argv();
    const offered = await run([program, "__complete", "vm", "stop", kubeconfig, `--namespace=${NAMESPACE}`, ""]);
    expect(offered).toMatch(/^web$/m);
  });

  it("restarts it: another pod, and no change of the spec", async () => {
    const before = await kubectl.get("vm", "web");
    await vm("restart", "web", "--wait");
    const after = await kubectl.get("vm", "web");
    expect(after?.status.podUID).not.toBe(before?.status.podUID);
    expect(after?.metadata.generation).toBe(before?.metadata.generation);
  });

  it("does not fight who declares a field on the server, unless forced; then stops", async () => {
    const declared = testGuest("web", { runStrategy: "Always" });
    const apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-"];
    await kubectl.run(apply, { input: JSON.stringify(declared) });
    expect(await refused("stop", "web")).toContain("spec.runStrategy of web is declared by gitops");
    await vm("stop", "web", "--force", "--wait");
    const stopped = await kubectl.get("vm", "web");
    expect(stopped?.status.phase).toBe("Stopped");
    expect(await refused("console", "web")).toContain("web does not run now, it is Stopped");
    expect(await refused("restart", "web")).toContain("kubectl vm start web");
    // The declared state comes back as it does with a GitOps tool.
    await kubectl.run(apply, { input: JSON.stringify(declared) });
    await eventually("it runs again", 60_000, async () => (await kubectl.get("vm", "web"))?.status.phase === "Running");
  });
});
