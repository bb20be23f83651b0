import { TEST_GUEST_IMAGE, testGuest } from "../../e2e/support/vm.ts";

type Objects = Readonly<Record<string, object>>;

/** Entries of lists leave fields out that the API server fills in: no difference for any tool. */
const web = testGuest("web", {
  disks: [
    { name: "data", persistentVolumeClaim: { claimName: "web-data" } },
    { name: "scratch", emptyDisk: { size: "1Mi" } },
  ],
});
const queue = testGuest("queue", {
  interfaces: [{ name: "default", masquerade: { ports: [{ port: 80 }] } }],
  disks: [{ name: "spool", volumeClaimTemplate: { name: "spool" } }],
  volumeClaimTemplates: [{ metadata: { name: "spool" }, spec: { resources: { requests: { storage: "16Mi" } } } }],
});
const claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "web-data" },
  spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "16Mi" } } },
};
const service = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web" },
  spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
};
/** Cannot start before somebody corrects it. */
const broken = testGuest("broken", {
  boot: { kernel: { image: { reference: TEST_GUEST_IMAGE }, path: "/boot/none" } },
});

/** Revisions of a repository with two machines, a claim and a Service. */
export const revisions = {
  first: { web, queue, claim, service },
  /** One machine changes while it runs, the other one is to be restarted some day. */
  changed: {
    web: { ...web, spec: { ...web.spec, paused: true } },
    queue: { ...queue, spec: { ...queue.spec, cpu: { cores: 2 } } },
    claim,
    service,
  },
  withBroken: { web, queue, claim, service, broken },
  /** Without the machine that has the claim. */
  smaller: { queue, service },
} satisfies Record<string, Objects>;
