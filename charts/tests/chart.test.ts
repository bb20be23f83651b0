import { describe, expect, it } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { chartDirectory, helm, readGolden, render, valueSets, valuesFile, withoutCrds } from "./render.ts";

/** Building helm, where it was never built, takes a minute or two. */
const timeoutMs = 10 * 60_000;

interface KubernetesObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly rules?: readonly { readonly apiGroups: string[]; readonly resources: string[]; readonly verbs: string[] }[];
  readonly spec?: { readonly template?: { readonly spec: PodSpec } };
}

interface PodSpec {
  readonly securityContext?: object;
  readonly containers: readonly { readonly securityContext: object; readonly args: string[]; readonly image: string }[];
}

async function objects(valueSet: string, ...args: string[]): Promise<KubernetesObject[]> {
  return parseAllDocuments(await render(valueSet, ...args))
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

describe.each(valueSets)("the chart with %s values", (valueSet) => {
  it(
    "passes helm lint",
    async () => {
      expect(await helm("lint", "--strict", chartDirectory, "--values", valuesFile(valueSet))).toContain(
        "0 chart(s) failed",
      );
    },
    timeoutMs,
  );

  it(
    "renders as its golden file; if that is meant, run hack/generate",
    async () => {
      expect(withoutCrds(await render(valueSet))).toBe(readGolden(valueSet));
    },
    timeoutMs,
  );

  it(
    "labels every object as Helm and Kubernetes recommend",
    async () => {
      for (const { kind, metadata } of await objects(valueSet)) {
        const labels = Object.keys(metadata.labels ?? {});
        const recommended = ["name", "instance", "version", "managed-by", "part-of"];
        expect({ kind, name: metadata.name, labels }).toMatchObject({
          labels: expect.arrayContaining(recommended.map((name) => `app.kubernetes.io/${name}`)),
        });
      }
    },
    timeoutMs,
  );

  it(
    "gives no right by wildcard",
    async () => {
      for (const { metadata, rules = [] } of await objects(valueSet)) {
        for (const { apiGroups, resources, verbs } of rules) {
          expect([metadata.name, ...apiGroups, ...resources, ...verbs]).not.toContain("*");
        }
      }
    },
    timeoutMs,
  );
});

describe("the chart", () => {
  it(
    "keeps the definitions on uninstall unless told otherwise",
    async () => {
      const definition = (list: KubernetesObject[]) => list.find(({ kind }) => kind === "CustomResourceDefinition");
      const keep = { "helm.sh/resource-policy": "keep" };
      expect(definition(await objects("default"))?.metadata.annotations).toEqual(keep);
      expect(definition(await objects("default", "--set", "crds.keep=false"))?.metadata.annotations).toBeUndefined();
      expect(definition(await objects("default", "--set", "crds.install=false"))).toBeUndefined();
    },
    timeoutMs,
  );

  it(
    "gives privileges to the node agent alone",
    async () => {
      const pods = (await objects("default")).flatMap(({ kind, spec }) =>
        spec?.template ? [{ kind, ...spec.template.spec }] : [],
      );
      const privileged = pods.filter((pod) => pod.containers.some((c) => "privileged" in c.securityContext));
      expect(privileged.map(({ kind }) => kind)).toEqual(["DaemonSet"]);
    },
    timeoutMs,
  );

  it(
    "has a webhook that nobody else's pods can wait for, in the namespaces that are served, or none",
    async () => {
      const webhookOf = (list: KubernetesObject[]) =>
        list.find(({ kind }) => kind === "ValidatingWebhookConfiguration");
      const everywhere = webhookOf(await objects("default"));
      expect(everywhere).toMatchObject({
        webhooks: [{ failurePolicy: "Ignore", sideEffects: "NoneOnDryRun", matchConditions: [{}] }],
      });
      expect(everywhere).not.toMatchObject({ webhooks: [{ namespaceSelector: expect.anything() }] });
      expect(webhookOf(await objects("namespaced"))).toMatchObject({
        webhooks: [{ namespaceSelector: { matchExpressions: [{ operator: "In", values: ["team-a", "team-b"] }] } }],
      });
      const without = await objects("default", "--set", "evictionWebhook.enabled=false");
      expect(webhookOf(without)).toBeUndefined();
      expect(JSON.stringify(without)).not.toMatch(/webhook/i);
    },
    timeoutMs,
  );

  it(
    "needs no Prometheus operator unless asked for what does",
    async () => {
      const kinds = (list: KubernetesObject[]) => new Set(list.map(({ kind }) => kind));
      const monitoring = ["PodMonitor", "ServiceMonitor", "PrometheusRule"];
      const plain = kinds(await objects("everything"));
      expect(monitoring.filter((kind) => plain.has(kind))).toEqual([]);
      const asked = kinds(await objects("monitoring"));
      expect(monitoring.filter((kind) => asked.has(kind))).toEqual(monitoring);
    },
    timeoutMs,
  );

  it(
    "scrapes the controllers once, whichever monitor finds them",
    async () => {
      const monitors = async (...args: string[]) =>
        (await objects("default", "--set", "metrics.podMonitor.enabled=true", ...args))
          .filter(({ kind }) => kind.endsWith("Monitor"))
          .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
          .sort();
      const others = ["PodMonitor typevisor-launchers", "PodMonitor typevisor-node"];
      expect(await monitors()).toEqual([...others, "PodMonitor typevisor-operator"]);
      expect(await monitors("--set", "metrics.serviceMonitor.enabled=true")).toEqual([
        ...others,
        "ServiceMonitor typevisor-operator",
      ]);
      const withoutService = ["--set", "metrics.service.enabled=false", "--set", "metrics.serviceMonitor.enabled=true"];
      await expect(monitors(...withoutService)).rejects.toThrow(/needs metrics.service.enabled/);
    },
    timeoutMs,
  );

  it.each([
    ["typevisor/operator", "", "docker.io/typevisor/operator:dev"],
    ["quay.example/typevisor/operator", "", "quay.example/typevisor/operator:dev"],
    ["localhost/operator", "1.0", "localhost/operator:1.0"],
    ["registry:5000/operator", "1.0", "registry:5000/operator:1.0"],
    ["operator", "1.0", "docker.io/operator:1.0"],
  ])(
    "names the image %s with tag '%s' as %s",
    async (repository, tag, image) => {
      const set = ["--set", `operator.image.repository=${repository}`, "--set", `operator.image.tag=${tag}`];
      const deployment = (await objects("default", ...set)).find(({ kind }) => kind === "Deployment");
      expect(deployment?.spec?.template?.spec.containers[0]?.image).toBe(image);
    },
    timeoutMs,
  );

  it.each([
    ["operator.replica=1", "replica"],
    ["evictionWebhook.port=443", "port"],
    ["operator.logLevel=loud", "logLevel"],
    ["launcher.cpuRatio=2", "cpuRatio"],
    ["node.deviceCount=0", "deviceCount"],
    ["launcher.seccomp=Unconfined", "seccomp"],
    ["migrations.parallelPerNode=0", "parallelPerNode"],
    ["migrations.bandwidth=fast", "bandwidth"],
    ["node.kubeletDir=var/lib/kubelet", "kubeletDir"],
    ["operator.image.digest=sha256:1", "digest"],
    ["watchNamespaces={Team_A}", "watchNamespaces"],
    ["metrics.podMonitor.interval=often", "interval"],
    ["metrics.prometheusRule.runbookUrl=here", "runbookUrl"],
  ])(
    "refuses the value %s and names it",
    async (value, name) => {
      await expect(render("default", "--set", value)).rejects.toThrow(new RegExp(name));
    },
    timeoutMs,
  );
});
