import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { beforeAll, describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import { topMetrics } from "../../cli/src/commands/top.ts";
import { run } from "../lib/step.ts";
import { type Catalogue, readCatalogue } from "./catalogue.ts";
import { generatedFiles } from "./generated.ts";

const repository = join(import.meta.dirname, "../..");
const rulesDirectory = join(repository, "charts/typevisor/rules");
const ruleTests = join(repository, "charts/tests/rules");
const runbooks = join(repository, "docs/runbooks");

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const ruleFiles = readdirSync(rulesDirectory).map((file) => join(rulesDirectory, file));
const rules = ruleFiles.flatMap((file) => {
  const { groups } = parse(readFileSync(file, "utf8")) as { groups: { rules: Rule[] }[] };
  return groups.flatMap((group) => group.rules);
});
const alerts = rules.filter(({ alert }) => alert !== undefined);

let catalogue: Catalogue;
let known: Set<string>;
beforeAll(async () => {
  catalogue = await readCatalogue();
  const entries = [...catalogue.launcher, ...catalogue.controllers, ...catalogue.node];
  known = new Set(
    entries.flatMap(({ name, type }) =>
      type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
});

/** Names of series in a query: all words that are no label, function, keyword or text. */
function seriesIn(expr: string): string[] {
  const plain = expr
    .replaceAll(/"[^"]*"/g, "")
    .replaceAll(/\{[^}]*\}/g, "")
    .replaceAll(/\b(by|on|group_left|group_right|without|ignoring)\s*\([^)]*\)/g, "")
    .replaceAll(/\[[^\]]*\]/g, "");
  const words = plain.match(/[a-zA-Z_][\w:]*/g) ?? [];
  return words.filter((word) =>
    /^(typevisor|workqueue|rest_client|leader_election|kubevirt|namespace:|cluster:)/.test(word),
  );
}

describe("what is generated from the metrics", () => {
  it("is as the code says; if not, run hack/generate", async () => {
    for (const [path, content] of Object.entries(await generatedFiles())) {
      expect({ path, content: readFileSync(join(repository, path), "utf8") }).toEqual({ path, content });
    }
  });

  it.each(["launcher", "controllers", "node"] as const)(
    "promtool finds nothing wrong in a scrape of the %s",
    async (part) => {
      // What prom-client tells of its process is not ours to name.
      const own = catalogue.scrapes[part]
        .split("\n")
        .filter((line) => !/^(# (HELP|TYPE) )?(process|nodejs)_/.test(line));
      expect(own.filter((line) => line.startsWith("# TYPE")).length).toBeGreaterThan(6);
      expect(await run(["promtool", "check", "metrics"], { input: own.join("\n") })).toBe("");
    },
  );

  it("promtool would find a metric that is named badly", async () => {
    const input = "# HELP a_ms A.\n# TYPE a_ms counter\na_ms 1\n";
    await expect(run(["promtool", "check", "metrics"], { input })).rejects.toThrow(/_total/);
  });

  it("has what kubectl vm top shows", () => {
    expect(Object.values(topMetrics).filter((name) => !known.has(name))).toEqual([]);
  });
});

describe("alerts and recording rules", () => {
  it("pass promtool", async () => {
    await run(["promtool", "check", "rules", ...ruleFiles]);
  });

  it("do what their tests say", async () => {
    const files = readdirSync(ruleTests).map((file) => join(ruleTests, file));
    await run(["promtool", "test", "rules", ...files]);
  }, 60_000);

  it("use only metrics that exist", () => {
    const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
    const used = rules.flatMap(({ expr }) => seriesIn(expr));
    expect(used.length).toBeGreaterThan(30);
    expect(used.filter((name) => !known.has(name) && !recorded.has(name))).toEqual([]);
  });

  it("each alert has a test that makes it fire and one that does not", () => {
    const { tests } = parse(readFileSync(join(ruleTests, "alerts.test.yaml"), "utf8")) as {
      tests: { promql_expr_test: { expr: string; exp_samples: unknown[] }[] }[];
    };
    const expectations = tests.flatMap(({ promql_expr_test }) => promql_expr_test);
    for (const { alert } of alerts) {
      const about = expectations.filter(({ expr }) => expr.includes(`alertname="${alert}"`));
      expect({ alert, fires: about.map(({ exp_samples }) => exp_samples.length > 0).sort() }).toEqual({
        alert,
        fires: [false, true],
      });
    }
  });

  it("each alert says how bad it is, what happens, and has a runbook; no runbook is left over", () => {
    for (const { alert, labels, annotations } of alerts) {
      expect(labels?.["severity"]).toMatch(/^(warning|critical)$/);
      expect(annotations).toMatchObject({
        summary: expect.stringMatching(/\.$/),
        description: expect.any(String),
        runbook_url: `RUNBOOKS/${alert}.md`,
      });
    }
    const pages = readdirSync(runbooks).map((file) => basename(file, ".md"));
    expect(pages.sort()).toEqual(alerts.map(({ alert }) => alert).sort());
  });
});

describe("dashboards", () => {
  const files = readdirSync(join(repository, "charts/typevisor/dashboards"));
  it.each(files)("%s uses only metrics that exist", (file) => {
    const text = readFileSync(join(repository, "charts/typevisor/dashboards", file), "utf8");
    const { panels } = JSON.parse(text) as { panels: { targets?: { expr: string }[] }[] };
    const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
    const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(queries.length).toBeGreaterThan(10);
    for (const expr of queries) {
      const names = seriesIn(expr);
      expect({ expr, names: names.length }).not.toEqual({ expr, names: 0 });
      expect(names.filter((name) => !known.has(name) && !recorded.has(name))).toEqual([]);
    }
  });
});
