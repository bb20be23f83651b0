import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CHART_VALUES_FILE, chartValuesPage } from "./chart-values.ts";
import { repository } from "./markdown.ts";

writeFileSync(join(repository, CHART_VALUES_FILE), chartValuesPage());
console.log(CHART_VALUES_FILE);
