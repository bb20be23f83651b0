import { describe, expect, it } from "@jest/globals";
import { CHART_VALUES_FILE, chartValuesPage, readChart } from "./chart-values.ts";
import { readPage } from "./markdown.ts";

describe("the page of the chart's values", () => {
  it("is up to date: otherwise run hack/generate", () => {
    expect(readPage(CHART_VALUES_FILE)).toBe(chartValuesPage());
  });

  it("says of each value what it is", () => {
    const { values } = readChart();
    expect(values.length).toBeGreaterThan(50);
    expect(values.filter(({ about }) => about === undefined)).toEqual([]);
  });

  it("takes a comment for what it stands before, be that a value, a group, or the first of a group", () => {
    const { values, sections } = readChart(`# About the file.

# The name,
# in two lines.
name: ""
# A part.
part:
  # How many.
  count: 2
  # All of it.
  whole:
    a: 1
    b: [x]
  # A switch.
  extra:
    enabled: false
    # How often.
    every: 30s
  plain:
    # Deep down.
    deep: null
`);
    expect(values).toEqual([
      { path: "name", default: '""', about: "The name, in two lines." },
      { path: "part.count", default: "2", about: "How many." },
      { path: "part.whole", default: "{a: 1, b: [x]}", about: "All of it." },
      { path: "part.extra.enabled", default: "false", about: "A switch." },
      { path: "part.extra.every", default: "30s", about: "How often." },
      { path: "part.plain.deep", default: "", about: "Deep down." },
    ]);
    expect(sections.get("part")).toBe("A part.");
  });
});
