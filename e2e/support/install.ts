import { join } from "node:path";

/** Archives of the images that the native tests use, as hack/images/build leaves them. */
export function testImages(root: string): string[] {
  const names = ["launcher", "operator", "testguest", "toolbox", "containerdisk"];
  return names.map((name) => join(root, "dist/images", `${name}.tar`));
}

/** What the tests give helm beyond the chart's defaults. */
export const installArguments = ["--create-namespace", "--wait", "--timeout", "3m"];
