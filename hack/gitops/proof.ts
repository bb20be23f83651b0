import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../e2e/support/eventually.ts";
import { podOf } from "../../e2e/support/vm.ts";
import { say } from "../lib/step.ts";
import type { GitRepository } from "./git-repository.ts";
import { revisions } from "./shop.ts";
import { specs } from "./specs.ts";
import { INTERVAL_SECONDS, type Tool, type Way } from "./tool.ts";

const APPLIED_WITHIN_MS = 240_000;
const PROBE_MS = 5_000;

/** What a tool is to do with a repository of machines, step by step; throws at the first thing that is not so. */
export async function prove(tool: Tool, repository: GitRepository, minutes: number): Promise<void> {
  const each = async (step: (way: Way) => Promise<string>) => {
    const told = tool.ways.map(async (way) => `${way.title}: ${await step(way)}`);
    for (const line of await Promise.all(told)) say(line);
  };
  const commit = async (name: keyof typeof revisions) => await repository.commit(name, revisions[name]);

  const first = await commit("first");
  await each(async (way) => {
    await way.follow(repository.url);
    await healthy(tool, way, first);
    for (const name of ["web", "queue"]) await mustBe(way, name, "Ready", "True");
    return "the first revision is there; it is healthy, and the machines run";
  });

  await each((way) => staysInSync(tool, way, { commit: first, minutes }));
  await each((way) => takesBack(tool, way));

  const changed = await commit("changed");
  await each(async (way) => {
    await healthy(tool, way, changed);
    await mustBe(way, "web", "Paused", "True");
    await mustBe(way, "queue", "RestartRequired", "True");
    return "a change has been rolled out";
  });

  await commit("withBroken");
  await each(async (way) => {
    const { words } = await eventually(`${way.title} tells of the machine that cannot start`, 180_000, async () => {
      const verdict = await way.verdict();
      return verdict.health === "failed" && verdict.words.includes("broken") ? verdict : undefined;
    });
    return `of a machine that cannot start it says ${words}`;
  });

  const smaller = await commit("smaller");
  await each(async (way) => {
    await healthy(tool, way, smaller);
    await areGone(way, ["vm/web", "vm/broken", "pvc/web-data", `pod/${podOf("web")}`, `pod/${podOf("broken")}`]);
    await mustBe(way, "queue", "Ready", "True");
    return "what the repository has no more is gone, and the rest runs";
  });

  await each(async (way) => {
    await way.forget();
    await areGone(way, ["vm/queue", "service/web", `pod/${podOf("queue")}`]);
    const kept = await way.kubectl.get("pvc", "spool-queue");
    if (kept === null) throw new Error("the claim that queue's template made was to be retained, and is gone");
    return "all that it applied is gone, and what it did not is kept";
  });
}

/** Waits until the tool has applied a commit, and found it healthy. */
async function healthy(tool: Tool, way: Way, commit: string): Promise<void> {
  await eventually(`${way.title} has applied ${commit}`, APPLIED_WITHIN_MS, async () => {
    await tool.mustRun();
    const verdict = await way.verdict();
    if (verdict.commit === commit && verdict.health === "healthy") return true;
    throw new Error(JSON.stringify(verdict));
  });
}

async function mustBe({ title, kubectl }: Way, name: string, type: string, status: string): Promise<void> {
  const vm = await kubectl.get("vm", name);
  const found = vm?.status.conditions?.find((condition) => condition.type === type);
  const isOfNow = found?.observedGeneration === vm?.metadata.generation;
  if (found?.status !== status || !isOfNow)
    throw new Error(`${title} says that all is well, and ${name} is ${JSON.stringify(found)}`);
}

/** Nobody but the tool writes, and the tool does not either; also while a machine is started anew in between. */
async function staysInSync(
  tool: Tool,
  way: Way,
  { commit, minutes }: { readonly commit: string; readonly minutes: number },
): Promise<string> {
  const { kubectl, manager, title } = way;
  const before = await specs(kubectl, manager);
  const log = await newLines(tool.logFile);
  const watch = async (forMs: number) => {
    const untilMs = performance.now() + forMs;
    while (performance.now() < untilMs) {
      await delay(PROBE_MS);
      const now = await specs(kubectl, manager);
      if (now !== before) throw new Error(`${title}: what was\n${before}\nis now\n${now}`);
      await healthy(tool, way, commit);
    }
  };
  await watch(minutes * 30_000);
  const pod = await kubectl.get("pod", podOf("web"));
  await kubectl.run(["delete", "pod", podOf("web")]);
  await eventually(`${title}: web runs again`, 120_000, async () => {
    const { metadata } = (await kubectl.get("pod", podOf("web"))) ?? {};
    if (metadata === undefined || metadata.uid === pod?.metadata.uid) return false;
    await mustBe(way, "web", "Ready", "True");
    return true;
  });
  await watch(minutes * 30_000);

  const lines = await log();
  const corrections = lines.filter(way.hasCorrected);
  if (corrections.length > 0) throw new Error(`${title} found differences: ${corrections.join("\n")}`);
  const comparisons = lines.filter(way.hasCompared).length;
  const fewest = Math.floor((minutes * 60) / INTERVAL_SECONDS / 2);
  if (comparisons < fewest)
    throw new Error(`${title} compared ${comparisons} times, and not ${fewest}: ${tool.logFile}`);
  return `in sync for ${minutes} min in ${comparisons} comparisons: no difference, no generation went up, and nobody else wrote a spec`;
}

/** A difference that is one is found, and told of in the log: without this, none found would say nothing. */
async function takesBack(tool: Tool, way: Way): Promise<string> {
  const { title, kubectl, manager } = way;
  const graceOf = async () => (await kubectl.get("vm", "web"))?.spec["terminationGracePeriodSeconds"];
  const before = await graceOf();
  const log = await newLines(tool.logFile);
  const patch = JSON.stringify({ spec: { terminationGracePeriodSeconds: 6 } });
  await kubectl.run(["patch", "vm", "web", "--type=merge", "-p", patch, "--field-manager=somebody"]);
  await eventually(`${title} takes back what somebody wrote`, 120_000, async () => (await graceOf()) === before);
  await specs(kubectl, manager);
  await eventually(`${title} tells of it in ${tool.logFile}`, 30_000, async () => (await log()).some(way.hasCorrected));
  return "what somebody else wrote has been found and taken back";
}

async function areGone({ kubectl }: Way, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await kubectl.run(["wait", name, "--for=delete", "--timeout=90s"], { timeoutMs: 100_000 });
  }
}

/** Answers what has been written to a log since. */
async function newLines(file: string): Promise<() => Promise<string[]>> {
  const { length } = await readFile(file);
  return async () => (await readFile(file)).subarray(length).toString().split("\n");
}
