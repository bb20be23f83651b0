import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { until } from "../../../operator/src/runtime/testing/until.ts";
import { exitCodes } from "../exit-codes.ts";
import { Scrape } from "../metrics-text.ts";
import { run } from "../run.ts";
import { Screen, TestCli } from "../testing/cli.ts";
import { launcherPod } from "../testing/fixtures.ts";
import { topTable } from "./top.ts";

const metrics = (cpu: number, written: number) => `# HELP typevisor_vm_vcpus Virtual processors.
# TYPE typevisor_vm_vcpus gauge
typevisor_vm_vcpus{namespace="team-a",name="web"} 2
typevisor_vm_cpu_usage_seconds_total{namespace="team-a",name="web"} ${cpu}
typevisor_vm_memory_resident_bytes{namespace="team-a",name="web"} 104857600
typevisor_vm_storage_write_traffic_bytes_total{drive="a b{"} ${written}
typevisor_vm_storage_write_traffic_bytes_total{drive="c"} ${written}
`;

describe("kubectl vm top", () => {
  let cli: TestCli;
  let scrapes: number;
  beforeEach(async () => {
    cli = await TestCli.start();
    scrapes = 0;
    cli.api.write("pods", launcherPod());
    cli.api.intercept = ({ path }) => {
      if (!path.endsWith("/proxy/metrics")) return undefined;
      scrapes += 1;
      return { kind: "text", text: metrics(scrapes, scrapes * 1e6) };
    };
  });
  afterEach(() => cli[Symbol.asyncDispose]());

  const top = (...args: string[]) => cli.run("top", "--interval", "1ms", ...args);

  it("reads launchers through the API server's proxy, twice, and shows rates of what grew", async () => {
    const [row] = JSON.parse((await top("-o", "json")).stdout);
    const { path } = cli.api.requests.find((request) => request.path.includes("proxy")) ?? {};
    expect(path).toBe("/api/v1/namespaces/team-a/pods/vm-web:10080/proxy/metrics");
    expect(row).toMatchObject({ namespace: "team-a", name: "web", node: "node-1", vcpus: 2, residentBytes: 104857600 });
    expect(row.cpu).toBeGreaterThan(0);
    // Both grew in the same time: two disks by 1e6 each, the processor by 1.
    expect(row.diskWriteBytes / row.cpu).toBeCloseTo(2e6);
    expect(row.networkReceiveBytes).toBeUndefined();
  });

  it("shows a table, and what is not known as a dash", async () => {
    const { stdout } = await top("-A", "-o", "wide");
    expect(stdout.split("\n")[0]).toMatch(/^NAMESPACE +NAME +CPU +VCPUS .* NODE$/);
    expect(stdout).toMatch(/^team-a +web .* 100 MiB .* - .* node-1$/m);
  });

  it("shows the table again and again on a terminal, until it is interrupted", async () => {
    const screen = new Screen();
    const environment = screen.environment({ KUBECONFIG: cli.kubeconfig }, { columns: 80, rows: 24 });
    const ended = run(["top", "--interval", "1ms"], environment);
    await until(() => screen.stdout.split("\u001b[H\u001b[J").length > 3);
    screen.interrupt.abort();
    expect(await ended).toBe(exitCodes.ok);
  });

  it("keeps a machine whose launcher does not answer, and says why", async () => {
    cli.api.intercept = ({ path }) =>
      path.endsWith("/proxy/metrics")
        ? { kind: "answer", status: { code: 503, reason: "ServiceUnavailable", message: "dial tcp: no route" } }
        : undefined;
    expect((await top()).stdout).toMatch(/1 without figures, such as web: .*no route/);
  });

  it("names the right that is missing", async () => {
    cli.api.intercept = ({ path }) =>
      path.endsWith("/proxy/metrics") ? { kind: "answer", status: { code: 403, reason: "Forbidden" } } : undefined;
    expect(await top()).toMatchObject({
      code: exitCodes.forbidden,
      stderr: expect.stringContaining("get on pods/proxy"),
    });
  });

  it("says that nothing runs", async () => {
    cli.api.erase("pods", "team-a", "vm-web");
    expect((await top()).stderr).toContain("no machine runs in team-a");
  });

  it("fits a terminal, and tells how many rows do not", () => {
    const rows = ["a", "b", "c"].map((name) => ({ namespace: "n", name, node: "" }));
    expect(topTable(rows, { allNamespaces: false }, { isTTY: true, rows: 5 }).trimEnd().split("\n").at(-1)).toBe(
      "(1 more)",
    );
  });
});

describe("a scrape", () => {
  it("gives no rate across a start, where a counter begins anew", () => {
    const before = new Scrape("a_total 5\n", 0);
    expect(new Scrape("a_total 7\n", 1000).rate(before, "a_total")).toBe(2);
    expect(new Scrape("a_total 1\n", 1000).rate(before, "a_total")).toBeUndefined();
    expect(new Scrape("b_total 1\n", 1000).rate(before, "a_total")).toBeUndefined();
  });
});
