import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "@jest/globals";
import type { NetworkInterface } from "../../../../crds/src/interface.ts";
import { parseMachineConfig } from "../../../../launcher/src/config/machine-config.ts";
import { launcherSeccompName } from "../../launcher-seccomp/profile.ts";
import type { Pod } from "../../runtime/wire.ts";
import { hasGuestLiveness, hasGuestReadiness } from "./guest-probes.ts";
import { machineConfig } from "./machine-config.ts";
import { launcherPod } from "./pod.ts";
import { at, machine, settings, TRUST } from "./testing/fixtures.ts";

const inputs = { settings, restarts: 2, certificateRenewAt: at(0), trustId: TRUST, claims: {} };
const podFor = (vm = machine()): Pod => launcherPod(vm, inputs);
const withTemplate = (spec: object, metadata: object = {}) => machine({ template: { metadata, spec } });

/** Compares with a file beside this test; UPDATE_GOLDEN=true writes it. */
function expectGolden(name: string, value: unknown): void {
  const path = `${import.meta.dirname}/testing/${name}`;
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (process.env["UPDATE_GOLDEN"] === "true") writeFileSync(path, text);
  expect(text).toBe(readFileSync(path, "utf8"));
}

describe("the launcher pod", () => {
  it("is as the golden file shows", () => {
    expectGolden("pod.golden.json", podFor());
  });

  it("tells Prometheus where its metrics are only where that is asked for, and the template has the last word", () => {
    const scraped = (template?: object) =>
      launcherPod(machine(template === undefined ? {} : { template }), {
        ...inputs,
        settings: { ...settings, scrapeAnnotations: true },
      }).metadata?.annotations;
    expect(scraped()).toMatchObject({
      "prometheus.io/scrape": "true",
      "prometheus.io/port": "10080",
      "prometheus.io/path": "/metrics",
    });
    expect(scraped({ metadata: { annotations: { "prometheus.io/scrape": "false" } } })).toMatchObject({
      "prometheus.io/scrape": "false",
    });
    expect(podFor().metadata?.annotations).not.toHaveProperty(["prometheus.io/scrape"]);
  });

  it("passes Pod Security restricted and holds no token", () => {
    const { spec } = podFor();
    const container = spec?.containers[0];
    expect(spec).toMatchObject({
      automountServiceAccountToken: false,
      restartPolicy: "Never",
      enableServiceLinks: false,
    });
    expect(spec?.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(spec?.securityContext?.supplementalGroups).toEqual([107]);
    expect(container?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
    });
    for (const volume of spec?.volumes ?? []) {
      expect(Object.keys(volume).some((source) => ["secret", "emptyDir", "image"].includes(source))).toBe(true);
    }
  });

  it("has a seccomp profile of its own where that is set, which Pod Security restricted allows too", () => {
    const { spec } = launcherPod(machine(), {
      ...inputs,
      settings: { ...settings, launcherSeccomp: "Localhost" },
    });
    expect(spec?.containers[0]?.securityContext?.seccompProfile).toEqual({
      type: "Localhost",
      localhostProfile: launcherSeccompName(),
    });
    expect(spec?.securityContext?.seccompProfile).toEqual({ type: "RuntimeDefault" });
  });

  it("requests the guest's memory and the overhead, a share of a CPU for each vCPU, and no limit but the device", () => {
    const { resources } = podFor().spec?.containers[0] ?? {};
    expect(resources?.requests).toEqual({ memory: "1082Mi", cpu: "200m", "devices.typevisor.io/kvm": "1" });
    expect(resources?.limits).toEqual({ "devices.typevisor.io/kvm": "1" });
  });

  it("takes requests and limits from the template, and keeps the CPU request below a CPU limit", () => {
    const limits = { cpu: "100m", memory: "2Gi" };
    const { resources } =
      podFor(withTemplate({ resources: { limits, requests: { memory: 1_500_000_000 } } })).spec?.containers[0] ?? {};
    expect(resources?.requests).toMatchObject({ memory: "1500000000", cpu: "100m" });
    expect(resources?.limits).toMatchObject(limits);
  });

  it("has the machine's labels and the template's, and lets neither take the place of its own", () => {
    const vm = withTemplate({}, { labels: { app: "other", tier: "db" }, annotations: { note: "x" } });
    vm.metadata.labels = { app: "web", team: "a", "typevisor.io/vm": "forged" };
    const { labels, annotations } = podFor(vm).metadata ?? {};
    expect(labels).toMatchObject({ app: "other", tier: "db", team: "a", "typevisor.io/vm": "web" });
    expect(annotations).toMatchObject({ note: "x", "typevisor.io/restarts": "2" });
  });

  it("is left out by a service mesh, or has its settings, as the machine's labels and the template's say", () => {
    const settings = { "sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none" };
    const linkerd = { "linkerd.io/inject": "disabled" };
    const vm = withTemplate({}, { labels: { "istio.io/dataplane-mode": "none" }, annotations: linkerd });
    vm.metadata.labels = { "sidecar.istio.io/inject": "false" };
    const { labels, annotations } = podFor(vm).metadata ?? {};
    expect(labels).toMatchObject(settings);
    expect(annotations).toMatchObject(linkerd);
  });

  it("is placed as the template says, and leaves a silent node after 30 s unless the template says otherwise", () => {
    const own = {
      key: "node.kubernetes.io/unreachable",
      operator: "Exists",
      effect: "NoExecute",
      tolerationSeconds: 600,
    };
    const spec = { nodeSelector: { disk: "fast" }, tolerations: [own], priorityClassName: "high", hostname: "db" };
    const pod = podFor(withTemplate(spec));
    expect(pod.spec).toMatchObject({ nodeSelector: { disk: "fast" }, priorityClassName: "high", hostname: "db" });
    expect(pod.spec?.tolerations?.map((t) => [t.key, t.tolerationSeconds])).toEqual([
      ["node.kubernetes.io/not-ready", 30],
      ["node.kubernetes.io/unreachable", 600],
    ]);
  });

  it("names the ports that the guest is reached at, for Services and probes", () => {
    const ports = [
      { name: "http", protocol: "TCP" as const, port: 80 },
      { protocol: "UDP" as const, port: 53 },
    ];
    const pod = podFor(machine({ interfaces: [{ name: "default", masquerade: { ports }, state: "Up" }] }));
    expect(pod.spec?.containers[0]?.ports).toEqual([
      { name: "control", containerPort: 10443, protocol: "TCP" },
      { name: "telemetry", containerPort: 10080, protocol: "TCP" },
      { name: "migration", containerPort: 10444, protocol: "TCP" },
      { name: "migration-data", containerPort: 10445, protocol: "TCP" },
      { name: "http", containerPort: 80, protocol: "TCP" },
      { containerPort: 53, protocol: "UDP" },
    ]);
  });

  it("asks Multus for the networks of the spec, each by a name in the pod that lasts", () => {
    const multus = (name: string, networkName: string) => ({ name, multus: { networkName }, state: "Up" as const });
    const networks = (...interfaces: NetworkInterface[]) =>
      JSON.parse(podFor(machine({ interfaces })).metadata?.annotations?.["k8s.v1.cni.cncf.io/networks"] ?? "null");
    const [backup, storage] = networks(multus("backup", "vlan-5"), multus("storage", "infra/vlan-6"));
    expect(backup).toEqual({
      name: "vlan-5",
      namespace: "shop",
      interface: expect.stringMatching(/^tv[0-9a-f]{10}$/),
      mac: expect.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/),
    });
    expect(storage).toMatchObject({ name: "vlan-6", namespace: "infra" });
    expect(storage.interface).not.toBe(backup.interface);
    expect(networks(multus("storage", "infra/vlan-6"))).toEqual([storage]);
    expect(networks({ name: "default", masquerade: {}, state: "Up" })).toBeNull();
  });

  it("has the guest's probes in place of the launcher's, as the spec has them", () => {
    const times = {
      initialDelaySeconds: 30,
      periodSeconds: 5,
      timeoutSeconds: 1,
      successThreshold: 1,
      failureThreshold: 4,
    };
    const httpGet = { path: "/healthz", port: 80, scheme: "HTTP" as const };
    const pod = podFor(machine({ readinessProbe: { ...times, httpGet } }));
    expect(pod.spec?.containers[0]).toMatchObject({
      readinessProbe: { ...times, httpGet },
      livenessProbe: { httpGet: { path: "/healthz", port: "telemetry" } },
    });
    expect([hasGuestReadiness(pod), hasGuestLiveness(pod)]).toEqual([true, false]);
    const other = podFor(machine({ livenessProbe: { ...times, tcpSocket: { port: 22 } } }));
    expect(other.spec?.containers[0]).toMatchObject({
      readinessProbe: { httpGet: { path: "/readyz", port: "telemetry" } },
      livenessProbe: { ...times, tcpSocket: { port: 22 } },
    });
    expect([hasGuestReadiness(other), hasGuestLiveness(other)]).toEqual([false, true]);
  });

  it("has the host name and the subdomain of a headless Service", () => {
    expect(podFor().spec).toMatchObject({ hostname: "web" });
    const spec = { hostname: "db-0", subdomain: "db" };
    expect(podFor(withTemplate(spec)).spec).toMatchObject(spec);
  });

  it("gives the guest its grace period, and the launcher some seconds more", () => {
    expect(podFor(machine({ terminationGracePeriodSeconds: 5 })).spec?.terminationGracePeriodSeconds).toBe(15);
  });

  it("pulls with the machine's Secrets and the launcher's", () => {
    const vm = withTemplate({ imagePullSecrets: [{ name: "mine" }] });
    const pod = launcherPod(vm, { ...inputs, settings: { ...settings, launcherImagePullSecrets: ["theirs"] } });
    expect(pod.spec?.imagePullSecrets).toEqual([{ name: "mine" }, { name: "theirs" }]);
  });
});

describe("machine.json", () => {
  it("is what the launcher accepts, and says what the spec says", () => {
    const config = parseMachineConfig(JSON.stringify(machineConfig(machine(), settings, {})));
    expect(config).toMatchObject({
      identity: { name: "web", namespace: "shop" },
      cpu: { count: 2 },
      memory: { sizeBytes: 2 ** 30 },
      boot: { kernelPath: "/boot/vmlinuz", initrdPath: "/boot/initrd.img", commandLine: "root=/dev/vda" },
      disks: [{ name: "root", readOnly: false, queues: 2, source: { kind: "image", imageRoot: "/disks/root" } }],
      powerOffTimeoutMs: 120_000,
    });
  });

  it("boots by the firmware of the launcher's image where the spec names no kernel", () => {
    const { boot: _, ...spec } = machine().spec;
    const config = parseMachineConfig(JSON.stringify(machineConfig({ ...machine(), spec }, settings, {})));
    expect(config.boot).toEqual({ firmwarePath: "/usr/share/typevisor/CLOUDHV_EFI.fd" });
  });

  it("tells the launcher how to look for requests to disks only where the administrator did", () => {
    const polling = { windowUs: 0, sharePercent: 50 };
    expect(machineConfig(machine(), settings, {}).polling).toBeUndefined();
    const config = parseMachineConfig(JSON.stringify(machineConfig(machine(), { ...settings, polling }, {})));
    expect(config.polling).toEqual(polling);
  });

  it("points nowhere but into what the pod mounts", () => {
    const mounts = podFor().spec?.containers[0]?.volumeMounts?.map((mount) => mount.mountPath) ?? [];
    const config = JSON.stringify(machineConfig(machine(), settings, {}));
    const pointed = [...config.matchAll(/"(\/(?:etc|disks|boot-image|var|run\/typevisor\/launcher)[^"]*)"/g)];
    expect(pointed.length).toBeGreaterThan(5);
    for (const [, path = ""] of pointed) {
      expect(mounts.some((mount) => path === mount || path.startsWith(`${mount}/`))).toBe(true);
    }
  });

  it("names the disk whose claim does not exist", () => {
    const vm = machine({ disks: [{ name: "data", readOnly: false, persistentVolumeClaim: { claimName: "x" } }] });
    expect(() => machineConfig(vm, settings, {})).toThrow(/spec\.disks\[data\].*PersistentVolumeClaim x/);
  });
});
