import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { say, step } from "../lib/step.ts";
import { askGuest } from "./guest-shell.ts";
import type { ImageArchive, Runner, Target } from "./target.ts";

const namespace = "typevisor-system";
const release = "typevisor";
/** What the first machine needs; others are loaded when they are wanted. */
const neededImages = ["launcher", "operator", "guest-hello"];

/** A step failed that left a cluster to look at. */
export class ClusterStepFailed extends Error {
  override name = "ClusterStepFailed";
}

/** Everything, in order; each step does nothing where its result is there. */
export async function bringUp(target: Target, repository: string, run: Runner): Promise<void> {
  const tool = (name: string, ...args: string[]) => run([join(repository, name), ...args]);
  await step("Bundling launcher and operator", 15, () => tool("hack/build"));
  await step("Building images", 60, () => tool("hack/images/build", ...neededImages));
  await step(`Bringing up ${target.title}`, target.estimateSeconds, () => target.up());
  const archives = await readArchives(repository);
  await inCluster(async () => {
    await step("Loading images", 30, () => target.loadImages(archives));
    await step("Installing the chart", 30, () => install(target, repository, archives, run));
    await step("Starting the machine 'hello'", 20, () => startMachine(target, repository, run));
    await showMachine(target, run);
  });
}

async function inCluster(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new ClusterStepFailed(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

async function readArchives(repository: string): Promise<ImageArchive[]> {
  return Promise.all(
    neededImages.map(async (image) => {
      const path = join(repository, "dist/images", image);
      const { name, digest } = JSON.parse(await readFile(`${path}.json`, "utf8")) as ImageArchive;
      return { name, digest, path: `${path}.tar` };
    }),
  );
}

async function install(
  target: Target,
  repository: string,
  archives: readonly ImageArchive[],
  run: Runner,
): Promise<void> {
  const operatorDigest = archives.find(({ name }) => name.includes("/operator:"))?.digest ?? "";
  // The tag stays the same when the image changes: this is what makes the pods follow.
  const followed = ["operator", "node"].map((part) => `${part}.podAnnotations.image-digest=${operatorDigest}`);
  await run([
    ...[...target.helm, "upgrade", "--install", release, join(repository, "charts/typevisor")],
    ...["--namespace", namespace, "--create-namespace", "--wait", "--timeout", "5m"],
    ...followed.flatMap((value) => ["--set-string", value]),
  ]);
}

async function startMachine(target: Target, repository: string, run: Runner): Promise<void> {
  await run([...target.kubectl, "apply", "--filename", join(repository, "examples/hello.yaml")]);
  await run([...target.kubectl, "wait", "vm/hello", "--for=condition=Ready", "--timeout=5m"]);
}

/** The guest's own words: some lines of its boot, and what its shell answers. */
async function showMachine(target: Target, run: Runner): Promise<void> {
  const podName = (await run([...target.kubectl, "get", "vm", "hello", "--output=jsonpath={.status.podName}"])).trim();
  const line = "uname -srm; nproc; free -m | head -2";
  const { bootLines, output } = await step("Waiting for the guest's shell", 30, () =>
    askGuest(target, podName, /hello# /, line),
  );
  const told = bootLines.filter((text) =>
    /Linux version|Command line|DMI:|Hypervisor|Run \/init|guest ready/.test(text),
  );
  console.log(`\nThe guest said while it booted:\n${indented(told)}`);
  console.log(`\nIts shell answered to '${line}':\n${indented(output.split("\n"))}\n`);
  console.log(await run([...target.kubectl, "get", "vm", "hello", "--output=wide"]));
  console.log(nextSteps(target, podName));
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => `  ${line}`).join("\n");
}

function nextSteps(target: Target, podName: string): string {
  const { kubectlHint } = target;
  return [
    "What to try next:",
    `  ${kubectlHint} exec -it ${podName} -- console      its console; leave with Ctrl-]`,
    `  ${kubectlHint} get vm                              all machines`,
    `  ${kubectlHint} explain vm.spec                     what can be written in one`,
    `  ${kubectlHint} delete vm hello                     end it`,
    "  hack/quickstart --down                             remove everything",
  ].join("\n");
}

/** Removes what `bringUp` made; what is not there is no error. */
export async function takeDown(target: Target, repository: string, run: Runner): Promise<void> {
  if (target.remove) return target.remove();
  const kubectl = (...args: string[]) => run([...target.kubectl, ...args]);
  // Machines first: once the operator is gone nobody ends them.
  await kubectl("delete", "--filename", join(repository, "examples/hello.yaml"), "--ignore-not-found", "--wait").catch(
    (error: Error) => {
      // Without the definition there are no machines.
      if (!error.message.includes("no matches for kind")) throw error;
    },
  );
  await run([...target.helm, "uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"]);
  await kubectl("delete", "namespace", namespace, "--ignore-not-found");
  say("The definition of VirtualMachine stays with its machines; to remove all of them:");
  say(
    `  ${target.kubectlHint} delete crd virtualmachines.typevisor.io virtualmachineimages.typevisor.io virtualmachinemigrations.typevisor.io`,
  );
}
