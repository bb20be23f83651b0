import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { generatedFiles } from "./files.ts";

const repository = join(import.meta.dirname, "../../..");

describe("generated files", () => {
  it.each([...generatedFiles()])("%s is what the schemas say; if not, run hack/generate", (path, content) => {
    expect(readFileSync(join(repository, path), "utf8")).toBe(content);
  });
});
