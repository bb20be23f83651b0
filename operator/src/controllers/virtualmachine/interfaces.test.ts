import { describe, expect, it } from "@jest/globals";
import type { NetworkInterface } from "../../../../crds/src/interface.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import { interfaceStatuses } from "./interface-status.ts";
import { interfaceConfigs, interfacesOf, macOf, podInterfaceOf } from "./interfaces.ts";
import { machineConfig } from "./machine-config.ts";
import { paths } from "./names.ts";
import { generatedNetworkData } from "./network-data.ts";
import { launcherSays, machine, networkInterface, observation, podOf, settings, VM_UID } from "./testing/fixtures.ts";

const masquerade: NetworkInterface = { name: "default", masquerade: {}, state: "Up" };
const podIP: NetworkInterface = { name: "default", podIP: {}, state: "Up" };
const multus = (name: string, macAddress?: string): NetworkInterface => ({
  name,
  multus: { networkName: "vlan-5" },
  state: "Up",
  ...(macAddress === undefined ? {} : { macAddress }),
});
const configs = (changes: Partial<VirtualMachineSpec>) => interfaceConfigs(machine(changes), settings);
const withInterfaces = (...interfaces: NetworkInterface[]) => machine({ interfaces });

describe("the vsock of a machine", () => {
  it("is where its image's own command looks for it, and there only when it is asked for", () => {
    expect(machineConfig(machine(), settings, {}).vsock).toBeUndefined();
    const vsock = { socketPath: "/run/typevisor/launcher/vsock.sock", guestCid: 3 };
    expect(machineConfig(machine({ vsock: {} }), settings, {}).vsock).toEqual(vsock);
    expect(vsock.socketPath.startsWith(`${paths.run}/`)).toBe(true);
  });
});

describe("the interfaces of a machine", () => {
  it("are one on the pod network by default, and none where the list is empty", () => {
    expect(interfacesOf(machine().spec)).toEqual([masquerade]);
    expect(interfacesOf(machine({ interfaces: [] }).spec)).toEqual([]);
    expect(configs({ interfaces: [] })).toEqual([]);
  });

  it("have a MAC address of their own that lasts as long as the machine does", () => {
    const mac = macOf(VM_UID, masquerade);
    expect(mac).toBe(macOf(VM_UID, { ...podIP, state: "Down" }));
    const others = [macOf(VM_UID, multus("other")), macOf(VM_UID.replace(/1$/, "2"), masquerade)];
    expect(new Set([mac, ...others]).size).toBe(3);
    for (const each of [mac, ...others]) expect(each).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    expect(macOf(VM_UID, multus("a", "02:00:5E:10:00:0A"))).toBe("02:00:5e:10:00:0a");
  });

  it("have names in the pod that the kernel takes", () => {
    const names = ["a", "x".repeat(63)].map((name) => podInterfaceOf(multus(name)));
    for (const name of names) expect(name.length).toBeLessThanOrEqual(15);
    expect(new Set(names).size).toBe(2);
  });

  it("are what the launcher is told, in order", () => {
    const ports = [{ name: "http", protocol: "TCP" as const, port: 80 }];
    const limits = { packetsPerSecond: 1000 };
    const interfaces = [
      { ...masquerade, masquerade: { ports }, limits },
      { ...multus("storage"), state: "Down" as const },
    ];
    const [first, second] = configs({ interfaces, cpu: { cores: 16, model: "Host" } });
    expect(first).toEqual({
      name: "default",
      mac: macOf(VM_UID, masquerade),
      queues: 8,
      link: "up",
      attachment: { kind: "masquerade", ports: [{ protocol: "TCP", port: 80 }] },
      dataPath: "auto",
      limits,
      dhcp: { hostname: "web" },
    });
    expect(second).toMatchObject({
      link: "down",
      attachment: { kind: "multus", podInterface: podInterfaceOf(multus("storage")) },
    });
    expect(configs({ interfaces: [podIP] })[0]?.attachment).toEqual({ kind: "podIP" });
    const ntpServers = ["192.0.2.123", "2001:db8::123"];
    expect(configs({ interfaces: [{ ...masquerade, ntpServers }] })[0]?.dhcp).toEqual({ hostname: "web", ntpServers });
    const template = { spec: { hostname: "db-0" } };
    expect(configs({ template })[0]).toMatchObject({ queues: 2, dhcp: { hostname: "db-0" } });
  });

  it("cannot take a port of the launcher, nor can a probe ask one", () => {
    const on = (protocol: "TCP" | "UDP", port: number) => ({
      interfaces: [{ ...masquerade, masquerade: { ports: [{ protocol, port }] } }],
    });
    expect(() => configs(on("TCP", 10443))).toThrow(/spec\.interfaces\[default\]\.masquerade\.ports is port 10443/);
    expect(configs(on("UDP", 10443))).toHaveLength(1);
    const times = {
      initialDelaySeconds: 0,
      periodSeconds: 1,
      timeoutSeconds: 1,
      successThreshold: 1,
      failureThreshold: 1,
    };
    const readinessProbe = { ...times, tcpSocket: { port: 10080 } };
    expect(() => configs({ readinessProbe })).toThrow(/spec\.readinessProbe is port 10080/);
  });

  it("cannot have one MAC address twice, in whatever letters", () => {
    const interfaces = [multus("a", "02:00:5e:10:00:0a"), multus("b", "02:00:5E:10:00:0A")];
    expect(() => configs({ interfaces })).toThrow(/spec\.interfaces\[b\] has MAC address 02:00:5e:10:00:0a, as a has/);
  });
});

describe("network data for cloud-init", () => {
  const byDhcp = (macaddress: string) => ({ match: { macaddress }, dhcp4: true, dhcp6: true });
  const ethernetsOf = (...interfaces: NetworkInterface[]) =>
    JSON.parse(generatedNetworkData(withInterfaces(...interfaces)) ?? "");

  it("has the interface configured by DHCP of both families", () => {
    const ethernets = { default: byDhcp(macOf(VM_UID, masquerade)) };
    expect(ethernetsOf(masquerade)).toEqual({ version: 2, ethernets });
    expect(JSON.parse(generatedNetworkData(machine()) ?? "")).toEqual({ version: 2, ethernets });
  });

  it("has all of several configured so, and a boot not wait for other networks than the pod's", () => {
    const later = { "route-metric": 1000 };
    expect(ethernetsOf(masquerade, multus("storage", "02:00:5E:10:00:0A"))).toEqual({
      version: 2,
      ethernets: {
        default: byDhcp(macOf(VM_UID, masquerade)),
        storage: {
          ...byDhcp("02:00:5e:10:00:0a"),
          optional: true,
          "dhcp4-overrides": later,
          "dhcp6-overrides": later,
        },
      },
    });
  });

  it("is not made where there is no interface", () => {
    expect(generatedNetworkData(withInterfaces())).toBeUndefined();
  });

  it("is not made where the MAC address comes with the pod", () => {
    expect(generatedNetworkData(withInterfaces(podIP, multus("storage")))).toBeUndefined();
  });
});

describe("the status of interfaces", () => {
  const vm = withInterfaces(masquerade, multus("storage"));
  const pod = podOf(vm, "running");
  if (pod.status) pod.status.podIPs = [{ ip: "10.0.0.7" }, { ip: "fd00::7" }];
  const annotated = structuredClone(pod);
  Object.assign(annotated.metadata?.annotations ?? {}, {
    "k8s.v1.cni.cncf.io/network-status": JSON.stringify([
      { name: "pods", interface: "eth0", ips: ["10.0.0.7"] },
      { name: "shop/vlan-5", interface: podInterfaceOf(multus("storage")), ips: ["192.0.2.9"] },
    ]),
  });

  it("tells of those to come while there is no pod", () => {
    expect(interfaceStatuses(observation(vm), undefined)).toEqual([
      { name: "default", mac: macOf(VM_UID, masquerade) },
      { name: "storage", mac: macOf(VM_UID, multus("storage")) },
    ]);
    expect(interfaceStatuses(observation(withInterfaces(podIP)), undefined)).toEqual([{ name: "default" }]);
  });

  it("has the addresses by which others reach the guest: the pod's, and those of other networks", () => {
    const said = [networkInterface("default"), networkInterface("storage", { link: "down", addresses: [] })];
    const launcher = launcherSays(pod, { interfaces: said });
    const expected = [
      { name: "default", mac: "02:aa:bb:cc:dd:ee", state: "Up", ipAddresses: ["10.0.0.7", "fd00::7"] },
      { name: "storage", mac: "02:aa:bb:cc:dd:ee", state: "Down" },
    ];
    expect(interfaceStatuses(observation(vm, { pod, launcher }), pod)).toEqual(expected);
    expect(interfaceStatuses(observation(vm, { pod: annotated, launcher }), annotated)[1]?.ipAddresses).toEqual([
      "192.0.2.9",
    ]);
  });

  it("leaves out an interface that comes with the next start", () => {
    const launcher = launcherSays(pod, { interfaces: [networkInterface("default")] });
    expect(interfaceStatuses(observation(vm, { pod, launcher }), pod).map(({ name }) => name)).toEqual(["default"]);
  });

  it("keeps what was known while a new operator has not heard from the launcher yet, of the same pod alone", () => {
    const launcher = launcherSays(pod, { interfaces: [networkInterface("default", { link: "down" })] });
    const interfaces = interfaceStatuses(observation(vm, { pod, launcher }), pod);
    const before = { ...vm, status: { podUID: pod.metadata?.uid ?? "", interfaces } };
    expect(interfaceStatuses(observation(before, { pod }), pod)[0]).toMatchObject({
      mac: "02:aa:bb:cc:dd:ee",
      state: "Down",
    });
    const other = { ...before, status: { ...before.status, podUID: "another" } };
    expect(interfaceStatuses(observation(other, { pod }), pod)[0]).toEqual({
      name: "default",
      mac: macOf(VM_UID, masquerade),
      ipAddresses: ["10.0.0.7", "fd00::7"],
    });
  });

  it("does not stumble over what somebody else wrote into the annotation", () => {
    for (const text of ["", "{", "7", '[null, {"interface": 1}]']) {
      const odd = structuredClone(pod);
      Object.assign(odd.metadata?.annotations ?? {}, { "k8s.v1.cni.cncf.io/network-status": text });
      expect(interfaceStatuses(observation(vm, { pod: odd }), odd)[1]?.ipAddresses).toBeUndefined();
    }
  });
});
