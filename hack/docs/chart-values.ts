/** docs/chart-values.md: the values of the chart, from values.yaml and its comments. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isMap, isScalar, type Pair, parseDocument, type Scalar, stringify, type YAMLMap } from "yaml";
import { repository } from "./markdown.ts";

export const CHART_VALUES_FILE = "docs/chart-values.md";

/** One row: a value that is set as a whole. */
export interface ChartValue {
  /** As for --set, e.g. launcher.image.tag. */
  readonly path: string;
  /** In one line of YAML; empty where the chart finds one out. */
  readonly default: string;
  /** Its comment, or undefined where there is none. */
  readonly about: string | undefined;
}

const HEAD = `# Chart values

Generated from [values.yaml](../charts/typevisor/values.yaml) by \`hack/generate\`; do not edit. How the chart is used is in
[its README](../charts/typevisor/README.md). A schema refuses values that are not here, with the name of the key.
`;

type Values = YAMLMap<Scalar<string>, unknown>;

export interface Chart {
  /** In the order of values.yaml. */
  readonly values: readonly ChartValue[];
  /** What is said of the parts of the chart, by the first words of paths. */
  readonly sections: ReadonlyMap<string, string>;
}

export function readChart(text = readFileSync(join(repository, "charts/typevisor/values.yaml"), "utf8")): Chart {
  const { contents } = parseDocument(text);
  if (!isValues(contents)) throw new TypeError("values.yaml is no map");
  const said = contents.items.map((pair, index) => [
    pair.key.value,
    commentOf(pair, index === 0 ? contents : undefined),
  ]);
  return {
    values: valuesIn(contents, ""),
    sections: new Map(said.filter((entry) => entry[1] !== undefined) as [string, string][]),
  };
}

function isValues(value: unknown): value is Values {
  return isMap(value);
}

function valuesIn(map: Values, prefix: string, aboutAll?: string): ChartValue[] {
  return map.items.flatMap((pair, index) => {
    const path = `${prefix}${pair.key.value}`;
    // What is said of a group is said of what switches it on.
    const about = commentOf(pair, index === 0 ? map : undefined) ?? (index === 0 ? aboutAll : undefined);
    const { value } = pair;
    return isGroup(value, about) ? valuesIn(value, `${path}.`, about) : [{ path, default: inline(value), about }];
  });
}

/** Whether its parts are values of their own: they are where they have comments, or where there is none for all of them. */
function isGroup(value: unknown, about: string | undefined): value is Values {
  return isValues(value) && value.items.length > 0 && (about === undefined || hasComments(value));
}

/** The parser gives the comment of a map's first key to the map. */
function commentOf(pair: Pair<Scalar<string>, unknown>, firstOf: YAMLMap | undefined): string | undefined {
  const comment = pair.key.commentBefore ?? firstOf?.commentBefore;
  return comment?.split("\n\n").at(-1)?.replaceAll(/\s+/g, " ").trim();
}

function hasComments(map: YAMLMap): boolean {
  return (
    map.items.some(
      ({ key, value }) =>
        typeof (key as Scalar).commentBefore === "string" ||
        (isMap(value) && (typeof value.commentBefore === "string" || hasComments(value))),
    ) || typeof map.commentBefore === "string"
  );
}

function inline(value: unknown): string {
  if (value === null || (isScalar(value) && value.value === null)) return "";
  return stringify(value, { collectionStyle: "flow", lineWidth: 0, flowCollectionPadding: false })
    .replaceAll(/\s*#.*$/gm, "")
    .replaceAll(/\s+/g, " ")
    .trim();
}

/** The page: a table for each first word of the paths, those of one word before all. */
export function chartValuesPage({ values, sections } = readChart()): string {
  const bySection = Map.groupBy(values, ({ path }) => (path.includes(".") ? path.slice(0, path.indexOf(".")) : ""));
  const tables = [...bySection]
    .toSorted(([a], [b]) => Number(a !== "") - Number(b !== ""))
    .map(([name, rows]) => {
      const title = name === "" ? "## For all parts" : `## ${name}`;
      const about = sections.has(name) ? ["", sections.get(name)] : [];
      return [title, ...about, "", "| value | default | what |", "|---|---|---|", ...rows.map(rowOf), ""].join("\n");
    });
  return [HEAD, ...tables].join("\n");
}

function rowOf({ path, default: given, about = "" }: ChartValue): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return `| \`${path}\` | ${given === "" ? "" : `\`${cell(given)}\``} | ${cell(about)} |`;
}
