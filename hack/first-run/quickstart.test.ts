import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { builtInTarget, parseImageList } from "./built-in-target.ts";
import { contextTarget } from "./context-target.ts";
import { notReady } from "./diagnosis.ts";
import { kindTarget } from "./kind-target.ts";
import { parseOptions, UsageError } from "./options.ts";
import { takeDown } from "./quickstart.ts";
import type { Runner } from "./target.ts";

const archives = ["launcher", "operator"].map((name) => ({
  name: `docker.io/typevisor/${name}:dev`,
  digest: `sha256:${name}`,
  path: `/dist/${name}.tar`,
}));

/** Notes what would be run; answers by the beginning of the command line. */
function recorder(answers: Readonly<Record<string, string>> = {}) {
  const commands: string[] = [];
  const inputs: (string | undefined)[] = [];
  const run: Runner = async (argv, input) => {
    const line = argv.join(" ");
    commands.push(line);
    inputs.push(input);
    return Object.entries(answers).find(([start]) => line.startsWith(start))?.[1] ?? "";
  };
  return { commands, inputs, run };
}

describe("the command line of the quickstart", () => {
  it("takes a kind of nodes or a context, not both", () => {
    expect(parseOptions(["--nodes", "qemu"])).toEqual({ down: false, help: false, nodes: "qemu" });
    expect(parseOptions(["--down", "--context", "prod"])).toEqual({ down: true, help: false, context: "prod" });
    expect(() => parseOptions(["--nodes", "qemu", "--context", "x"])).toThrow(UsageError);
  });

  it("names what it does not know", () => {
    expect(() => parseOptions(["--nodes", "docker"])).toThrow("--nodes takes native or qemu, not 'docker'");
    expect(() => parseOptions(["--node", "qemu"])).toThrow("--node");
    expect(() => parseOptions(["--load-command", "true"])).toThrow("goes with --context");
  });
});

describe("kind", () => {
  it("is created once, with image volumes, and given every archive", async () => {
    const { commands, inputs, run } = recorder({ "kind get clusters": "other\n" });
    const target = kindTarget(run);
    await target.up();
    await target.loadImages(archives);
    expect(commands).toEqual([
      "kind get clusters",
      "kind create cluster --name typevisor --wait 3m --config -",
      "kind load image-archive --name typevisor /dist/launcher.tar",
      "kind load image-archive --name typevisor /dist/operator.tar",
    ]);
    expect(inputs[1]).toContain("ImageVolume: true");
    expect(target.kubectl).toEqual(["kubectl", "--context", "kind-typevisor"]);
  });

  it("is left as it is when it is there, and removed whole", async () => {
    const { commands, run } = recorder({ "kind get clusters": "other\ntypevisor\n" });
    const target = kindTarget(run);
    await target.up();
    await takeDown(target, "/repository", run);
    expect(commands).toEqual([
      "kind get clusters",
      "kind export kubeconfig --name typevisor",
      "kind delete cluster --name typevisor",
    ]);
  });
});

describe("an existing cluster", () => {
  it.each([
    ["kind-mine", "kind load image-archive --name mine /dist/launcher.tar"],
    ["k3d-mine", "k3d image import --cluster mine /dist/launcher.tar"],
    ["minikube", "minikube image load /dist/launcher.tar"],
  ])("of context %s gets images by its own tool", async (context, command) => {
    const { commands, run } = recorder();
    await contextTarget(context, run).loadImages(archives);
    expect(commands[0]).toBe(command);
  });

  it("gets images by the command that was given, and none without one", async () => {
    const { commands, run } = recorder();
    await contextTarget("prod", run).loadImages(archives);
    expect(commands).toEqual([]);
    await contextTarget("prod", run, "push $1").loadImages(archives);
    expect(commands[0]).toBe("sh -c push $1 sh /dist/launcher.tar");
  });

  it("is only cleared of what was installed", async () => {
    const { commands, run } = recorder();
    await takeDown(contextTarget("prod", run), "/repository", run);
    expect(commands.map((line) => line.replace(/ --.*(context) prod/, ""))).toEqual([
      "kubectl delete --filename /repository/examples/hello.yaml --ignore-not-found --wait",
      "helm uninstall typevisor --namespace typevisor-system --ignore-not-found --wait",
      "kubectl delete namespace typevisor-system --ignore-not-found",
    ]);
  });
});

describe("the built-in cluster", () => {
  let state: string;
  const before = process.env["XDG_STATE_HOME"];
  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), "quickstart-test-"));
    process.env["XDG_STATE_HOME"] = state;
    mkdirSync(join(state, "typevisor/quickstart"), { recursive: true });
    const cluster = { flavour: "qemu", workers: 2, nodeMemoryMiB: 3072, apiPort: 16443 };
    writeFileSync(join(state, "typevisor/quickstart/cluster.json"), JSON.stringify(cluster));
  });
  afterEach(() => {
    rmSync(state, { recursive: true });
    if (before === undefined) delete process.env["XDG_STATE_HOME"];
    else process.env["XDG_STATE_HOME"] = before;
  });

  const list = (...images: string[]) =>
    ["REF TYPE DIGEST SIZE PLATFORMS LABELS", ...images.map((image) => `${image} 1 MiB linux/amd64 -`)].join("\n");

  it("is given the images that some node lacks or has in another version", async () => {
    const { commands, run } = recorder({
      "/r/hack/cluster --name quickstart ssh node1": list(
        "docker.io/typevisor/launcher:dev application/vnd.oci.image.manifest.v1+json sha256:launcher",
        "docker.io/typevisor/operator:dev application/vnd.oci.image.manifest.v1+json sha256:operator",
      ),
      "/r/hack/cluster --name quickstart ssh node2": list(
        "docker.io/typevisor/launcher:dev application/vnd.oci.image.manifest.v1+json sha256:launcher",
        "docker.io/typevisor/operator:dev application/vnd.oci.image.manifest.v1+json sha256:old",
      ),
    });
    await builtInTarget("/r", run).loadImages(archives);
    expect(commands.at(-1)).toBe("/r/hack/cluster --name quickstart load-image /dist/operator.tar");
  });

  it("is brought up with the nodes that were asked for", async () => {
    const { commands, run } = recorder();
    await builtInTarget("/r", run, "native").up();
    expect(commands).toEqual(["/r/hack/cluster --name quickstart up --nodes native"]);
  });
});

describe("the diagnosis", () => {
  it("looks at pods that are not ready, and not at finished ones", () => {
    const table = [
      "default     vm-hello   0/1   Pending            0   1m",
      "kube-system dns        1/1   Running            0   1m",
      "a           half       1/2   Running            0   1m",
      "a           job        0/1   Completed          0   1m",
    ].join("\n");
    expect(notReady(table).map(({ name }) => name)).toEqual(["vm-hello", "half"]);
  });

  it("knows containerd's list of images", () => {
    expect([...parseImageList("REF TYPE DIGEST\nname type sha256:1 rest\n\n")]).toEqual(["name sha256:1"]);
  });
});
