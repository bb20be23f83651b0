import { join } from "node:path";

/** Images that the tests use. */
export const testImages: readonly string[] = ["launcher", "operator", "testguest", "toolbox", "containerdisk"];

/** Archives of images, as hack/images/build leaves them. */
export function imageFiles(names: readonly string[]): string[] {
  return names.map((name) => join(import.meta.dirname, "../../dist/images", `${name}.tar`));
}

/** What the tests give helm beyond the chart's defaults. */
export const installArguments = ["--create-namespace", "--wait", "--timeout", "3m"];
