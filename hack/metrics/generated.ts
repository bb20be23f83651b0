import { readCatalogue } from "./catalogue.ts";
import { dashboards } from "./dashboards.ts";
import { metricsReference } from "./reference.ts";

/** What follows from the metrics: paths in the repository, and contents. */
export async function generatedFiles(): Promise<Readonly<Record<string, string>>> {
  return { "docs/metrics.md": metricsReference(await readCatalogue()), ...dashboards() };
}
