import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import { goldenFile, render, valueSets, withoutCrds } from "./render.ts";

for (const valueSet of valueSets) {
  writeFileSync(goldenFile(valueSet), withoutCrds(await render(valueSet)));
  console.log(relative(".", goldenFile(valueSet)));
}
