import type { Runner, Target } from "./target.ts";

/** What a person would look at first when something in the cluster does not come up. */
export async function diagnose(target: Target, run: Runner): Promise<string> {
  const kubectl = (...args: string[]) =>
    run([...target.kubectl, ...args, "--request-timeout=10s"]).catch((error: Error) => error.message);
  const sections: [string, string][] = [
    ["Nodes", await kubectl("get", "nodes", "-o=wide")],
    ["Pods", await kubectl("get", "pods", "--all-namespaces", "-o=wide")],
    ["Machines", await kubectl("get", "virtualmachines", "--all-namespaces", "-o=wide")],
    [
      "Last events",
      lastLines(await kubectl("get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"), 15),
    ],
  ];
  for (const pod of notReady(await kubectl("get", "pods", "--all-namespaces", "--no-headers"))) {
    const log = await kubectl("logs", "--namespace", pod.namespace, pod.name, "--all-containers", "--tail=15");
    sections.push([`Log of ${pod.namespace}/${pod.name}`, log]);
  }
  return sections.map(([title, text]) => `--- ${title}\n${text.trimEnd()}`).join("\n");
}

function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}

/** From `kubectl get pods -A --no-headers`: NAMESPACE NAME READY STATUS RESTARTS AGE. */
export function notReady(table: string): { namespace: string; name: string }[] {
  return table
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([namespace, name, ready, status]) => {
      const [up, all] = ready?.split("/") ?? [];
      const fine = status === "Completed" || (up === all && status === "Running");
      return namespace && name && all && !fine ? [{ namespace, name }] : [];
    });
}
