import { describe, expect, it } from "@jest/globals";
import { MULTUS_NETWORKS_ANNOTATION, type NetworkInterface } from "../../../../crds/src/interface.ts";
import type { InterfaceStatus } from "../../../../launcher/api/control.ts";
import { parseInterfaceConfig } from "../../../../launcher/src/config/interface-config.ts";
import type { Pod } from "../../runtime/wire.ts";
import { decide } from "./decide.ts";
import { interfaceKey } from "./device-refused.ts";
import { NETWORK_PATIENCE_MS } from "./interface-hot-plug.ts";
import { NETWORK_STATUS_ANNOTATION } from "./interface-status.ts";
import { type MultusNetwork, macOf, multusNetworks, podInterfaceOf } from "./interfaces.ts";
import { annotations } from "./names.ts";
import type { Observation } from "./observation.ts";
import type { StoredVirtualMachine } from "./observe.ts";
import type { Action, Decision } from "./plan.ts";
import {
  at,
  launcherSays,
  machine,
  NOW_MS,
  networkInterface,
  observation,
  podOf,
  settings,
  VM_UID,
} from "./testing/fixtures.ts";

const own: NetworkInterface = { name: "default", masquerade: {}, state: "Up" };
const storage: NetworkInterface = { name: "storage", multus: { networkName: "infra/vlan-5" }, state: "Up" };
const now = (...interfaces: NetworkInterface[]) => machine({ interfaces: [own, ...interfaces] });
const networksOf = (vm: StoredVirtualMachine) => multusNetworks(vm);
const told = (networks: readonly MultusNetwork[]) =>
  networks.map(({ name, namespace, interface: inPod }) => ({ name: `${namespace}/${name}`, interface: inPod }));

/** The pod of a machine that was started as `started`; it asked for networks when it was told to, and has some of them. */
function podWith(parts: {
  started?: StoredVirtualMachine;
  asked?: readonly MultusNetwork[];
  askedAt?: string;
  has?: readonly MultusNetwork[];
}): Pod {
  const pod = podOf(parts.started ?? now(), "running");
  const { asked, askedAt = at(-5), has } = parts;
  Object.assign(pod.metadata?.annotations ?? {}, {
    ...(asked && { [MULTUS_NETWORKS_ANNOTATION]: JSON.stringify(asked), [annotations.networksAskedAt]: askedAt }),
    ...(has && { [NETWORK_STATUS_ANNOTATION]: JSON.stringify([{ name: "pods", interface: "eth0" }, ...told(has)]) }),
  });
  return pod;
}

function look(
  vm: StoredVirtualMachine,
  pod: Pod,
  { seen = [], nowMs = NOW_MS, ...parts }: Partial<Observation> & { seen?: InterfaceStatus[]; nowMs?: number } = {},
): Decision {
  const launcher = launcherSays(pod, { disks: [], interfaces: [networkInterface("default"), ...seen] });
  return decide(observation(vm, { pod, launcher, ...parts }), settings, nowMs);
}

const isDeed = (action: Action) => /networks$|-interface$/.test(action.kind);
const deeds = ({ actions }: Decision) => actions.filter(isDeed);
const statusOf = ({ actions }: Decision) =>
  actions.flatMap((action) => (action.kind === "write-status" ? [action.status] : []))[0];
const conditionOf = (decision: Decision, type: string) =>
  statusOf(decision)?.conditions?.find((each) => each.type === type);
const storageSeen = (state: InterfaceStatus["state"] = "Attached") =>
  networkInterface("storage", { mac: macOf(VM_UID, storage), ...(state && { state }) });

describe("an interface that a running machine's spec has gained", () => {
  const asked = networksOf(now(storage));

  it("is asked of Multus, then given to the launcher once the pod has it, and is there", () => {
    const first = look(now(storage), podWith({}));
    expect(deeds(first)).toEqual([expect.objectContaining({ kind: "ask-networks", networks: asked })]);
    const waiting = look(now(storage), podWith({ asked }));
    expect(deeds(waiting)).toEqual([]);
    expect(waiting.wakeAtMs).toBe(Date.parse(at(-5)) + NETWORK_PATIENCE_MS);
    expect(deeds(look(now(storage), podWith({ asked, has: asked })))).toMatchObject([{ kind: "attach-interface" }]);
    const done = look(now(storage), podWith({ asked, has: asked }), { seen: [storageSeen()] });
    expect(deeds(done)).toEqual([]);
    expect(conditionOf(done, "Reconciling")?.status).toBe("False");
    expect(statusOf(done)?.interfaces?.map(({ name }) => name)).toEqual(["default", "storage"]);
  });

  it("is told to the launcher as the launcher takes it", () => {
    const limits = { bitsPerSecond: 1_000_000_000 };
    const limited = { ...storage, limits, state: "Down" as const };
    const [deed] = deeds(look(now(limited), podWith({ asked, has: asked })));
    expect(parseInterfaceConfig(deed?.kind === "attach-interface" ? deed.config : {})).toMatchObject({
      name: "storage",
      mac: macOf(VM_UID, storage),
      link: "down",
      limits,
      attachment: { kind: "multus", podInterface: podInterfaceOf(storage) },
    });
  });

  it("needs no restart, wherever it stands in the spec, and the machine is ready meanwhile", () => {
    for (const interfaces of [
      [own, storage],
      [storage, own],
    ]) {
      const decision = look(machine({ interfaces }), podWith({ asked }));
      expect(conditionOf(decision, "RestartRequired")?.status).toBe("False");
      expect(conditionOf(decision, "Ready")?.status).toBe("True");
      expect(conditionOf(decision, "Reconciling")).toMatchObject({ status: "True", reason: "InterfaceAttaching" });
      expect(conditionOf(decision, "Reconciling")?.message).toMatch(/^Interface storage: .*infra\/vlan-5/);
    }
  });

  it("takes a restart where Multus does not bring it in time, with the reason, and comes all the same when it does later", () => {
    const late = { nowMs: Date.parse(at(-5)) + NETWORK_PATIENCE_MS };
    const decision = look(now(storage), podWith({ asked }), late);
    expect(conditionOf(decision, "RestartRequired")).toMatchObject({ status: "True", reason: "SpecChanged" });
    expect(conditionOf(decision, "RestartRequired")?.message).toMatch(
      /interface storage: network infra\/vlan-5 did not come into the running pod within 30 s: .*dynamic networks controller/,
    );
    expect(conditionOf(decision, "Reconciling")?.status).toBe("False");
    const unheard = look(now(storage), podWith({ asked }), { ...late, launcher: undefined });
    expect(conditionOf(unheard, "RestartRequired")?.status).toBe("True");
    const there = look(now(storage), podWith({ asked, has: asked }), late);
    expect(deeds(there)).toMatchObject([{ kind: "attach-interface" }]);
    expect(conditionOf(there, "RestartRequired")?.status).toBe("False");
  });

  it("is not taken for there when the pod has another network under its name, or none that can be read", () => {
    const other = asked.map((network) => ({ ...network, name: "vlan-6" }));
    expect(deeds(look(now(storage), podWith({ asked, has: other })))).toEqual([]);
    for (const text of ["", "{", "[null, 5]", "{}"]) {
      const pod = podWith({ asked });
      Object.assign(pod.metadata?.annotations ?? {}, { [NETWORK_STATUS_ANNOTATION]: text });
      expect(deeds(look(now(storage), pod))).toEqual([]);
    }
  });

  it("is tried again, ever later, when the launcher refuses it, which is said", () => {
    const pod = podWith({ asked, has: asked });
    const refusal = { message: "the bus is full", isPassing: false, count: 3, atMs: NOW_MS - 100 };
    const refused = look(now(storage), pod, { deviceRefusals: { [interfaceKey("storage")]: refusal } });
    expect(deeds(refused)).toEqual([]);
    expect(refused.wakeAtMs).toBe(NOW_MS - 100 + 2_000);
    expect(conditionOf(refused, "Reconciling")).toMatchObject({
      reason: "InterfaceNotAttached",
      message: "Interface storage: the bus is full",
    });
    const due = { ...refusal, atMs: NOW_MS - 60_000 };
    const again = look(now(storage), pod, { deviceRefusals: { [interfaceKey("storage")]: due } });
    expect(deeds(again)).toMatchObject([{ kind: "attach-interface" }]);
  });

  it("keeps the machine from moving", () => {
    const decision = look(now(storage), podWith({ asked, has: asked }), { seen: [storageSeen()] });
    expect(conditionOf(decision, "Migratable")).toMatchObject({ status: "False", reason: "InterfaceNotMigratable" });
    expect(conditionOf(decision, "Migratable")?.message).toMatch(/Interface storage came while the machine ran/);
  });

  it.each<[string, Partial<NetworkInterface>]>([
    ["is masqueraded", { masquerade: {} }],
    ["has the pod's address", { podIP: {} }],
  ])("takes a restart when it %s", (_, binding) => {
    const { multus: __, ...bare } = storage;
    const decision = look(now({ ...bare, ...binding }), podWith({}));
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "RestartRequired")?.message).toMatch(/interface storage comes or goes with a restart/);
  });

  it("is left alone while the machine stops, moves, or has not begun", () => {
    const pod = podWith({});
    const halted = machine({ interfaces: [own, storage], runStrategy: "Halted" });
    expect(deeds(look(halted, pod))).toEqual([]);
    expect(deeds(look(now(storage), pod, { incoming: pod }))).toEqual([]);
    expect(deeds(look(now(storage), podOf(now(), "scheduled")))).toEqual([]);
  });
});

describe("an interface that came to a running machine", () => {
  const asked = networksOf(now(storage));
  const pod = () => podWith({ asked, has: asked });

  it("is asked back of the guest, and then of Multus, when the spec has it no more", () => {
    const first = look(now(), pod(), { seen: [storageSeen()] });
    expect(deeds(first)).toMatchObject([{ kind: "detach-interface", interfaceName: "storage" }]);
    expect(conditionOf(first, "Reconciling")?.reason).toBe("InterfaceDetaching");
    expect(conditionOf(first, "RestartRequired")?.status).toBe("False");
    const gone = look(now(), pod());
    expect(deeds(gone)).toEqual([expect.objectContaining({ kind: "ask-networks", networks: null })]);
  });

  it("goes and comes again when its network is another one", () => {
    const other = { ...storage, multus: { networkName: "infra/vlan-6" } };
    expect(deeds(look(now(other), pod(), { seen: [storageSeen()] }))).toMatchObject([{ kind: "detach-interface" }]);
    const networks = networksOf(now(other));
    expect(deeds(look(now(other), pod()))).toEqual([expect.objectContaining({ kind: "ask-networks", networks })]);
    expect(deeds(look(now(other), podWith({ asked: networks, has: asked })))).toEqual([]);
  });

  it("does not take with it the networks that the machine was started with, whatever the spec says of them", () => {
    const backup: NetworkInterface = { name: "backup", multus: { networkName: "nightly" }, state: "Up" };
    const started = now(backup);
    const both = networksOf(now(backup, storage));
    const seen = [networkInterface("backup")];
    const decision = look(now(), podWith({ started, asked: both, has: both }), { seen });
    expect(deeds(decision)).toEqual([expect.objectContaining({ networks: networksOf(started) })]);
    expect(conditionOf(decision, "RestartRequired")?.message).toMatch(/interface backup comes or goes with a restart/);
  });

  it("has its cable pulled like any other", () => {
    const { actions } = look(now({ ...storage, state: "Down" }), pod(), { seen: [storageSeen()] });
    expect(actions).toContainEqual(
      expect.objectContaining({ kind: "set-link", interfaceName: "storage", state: "down" }),
    );
  });
});
