import type { TestCluster } from "../../e2e/support/cluster.ts";
import type { Kubectl } from "../../e2e/support/kubectl.ts";

/** Has a cluster know the CustomResourceDefinitions of a directory until the `using` ends. */
export async function installDefinitions({ system }: TestCluster, directory: string): Promise<AsyncDisposable> {
  await system.run(["apply", "--server-side", "-f", directory]);
  await system.run(["wait", "--for=condition=Established", "-f", directory, "--timeout=30s"]);
  return {
    async [Symbol.asyncDispose]() {
      await system.run(["delete", "-f", directory, "--ignore-not-found"]);
    },
  };
}

/** Lets objects go whose controller has ended. */
export async function withoutFinalizers(kubectl: Kubectl, kinds: readonly string[]): Promise<void> {
  const names = await kubectl.run(["get", kinds.join(","), "-o", "name"]);
  for (const name of names.split("\n").filter((name) => name !== "")) {
    await kubectl.run(["patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}']);
  }
}
