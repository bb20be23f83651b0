import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generatedFiles } from "./generated.ts";

const repository = join(import.meta.dirname, "../..");

for (const [path, content] of Object.entries(await generatedFiles())) {
  writeFileSync(join(repository, path), content);
  console.log(path);
}
