import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { PodCgroups } from "./pod-identity.ts";

const uid = "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11";
const uid_ = uid.replaceAll("-", "_");
const other = "11111111-2222-3333-4444-555555555555";
const other_ = other.replaceAll("-", "_");
const id = "a".repeat(64);
const otherId = "b".repeat(64);
const pod = { podUid: uid, containerId: id };

const onTheNode = new PodCgroups("0::/system.slice/typevisor.service\n");

describe("the pod of a process, by its cgroups", () => {
  it.each([
    ["v1, cgroupfs, guaranteed", `4:memory:/kubepods/pod${uid}/${id}\n1:cpu:/kubepods/pod${uid}/${id}\n`],
    ["v1, cgroupfs, burstable", `4:memory:/kubepods/burstable/pod${uid}/${id}\n0::/\n`],
    ["v1, cgroupfs, best effort", `9:name=systemd:/kubepods/besteffort/pod${uid}/${id}\n0::/\n`],
    ["v2, cgroupfs", `0::/kubepods/burstable/pod${uid}/${id}\n`],
    ["v2, CRI-O with cgroupfs", `0::/kubepods/burstable/pod${uid}/crio-${id}\n`],
    [
      "v2, systemd, burstable",
      `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid_}.slice/cri-containerd-${id}.scope\n`,
    ],
    ["v2, systemd, guaranteed", `0::/kubepods.slice/kubepods-pod${uid_}.slice/cri-containerd-${id}.scope\n`],
    ["v2, systemd, CRI-O", `0::/kubepods.slice/kubepods-pod${uid_}.slice/crio-${id}.scope/container\n`],
    [
      "v1, systemd, docker",
      `2:pids:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${uid_}.slice/docker-${id}.scope\n`,
    ],
    [
      "kind: systemd below --cgroup-root=/kubelet",
      `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod${uid_}.slice/cri-containerd-${id}.scope\n`,
    ],
    ["a group that the container made below its own", `0::/kubepods/pod${uid}/${id}/mine/deeper\n`],
  ])("%s", (_form, cgroups) => {
    expect(onTheNode.podOf(cgroups)).toEqual(pod);
  });

  it.each([
    ["same QoS class, cgroupfs", `0::/../../pod${uid}/${id}\n`],
    ["other QoS class, cgroupfs", `0::/../../../burstable/pod${uid}/${id}\n`],
    ["from outside kubepods, cgroupfs", `0::/../../kubepods/burstable/pod${uid}/${id}\n`],
    ["same QoS class, systemd", `0::/../../kubepods-burstable-pod${uid_}.slice/cri-containerd-${id}.scope\n`],
    [
      "other QoS class, systemd",
      `0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod${uid_}.slice/cri-containerd-${id}.scope\n`,
    ],
    [
      "from outside kubepods, systemd",
      `0::/../../kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid_}.slice/cri-containerd-${id}.scope\n`,
    ],
  ])("is seen from a cgroup namespace of the agent's own: %s", (_form, cgroups) => {
    expect(new PodCgroups("0::/\n").podOf(cgroups)).toEqual(pod);
  });

  it("is looked for where the agent's own pod is", () => {
    const prefix = "/system.slice/docker-1.scope/kubepods";
    const nested = new PodCgroups(`0::${prefix}/besteffort/pod${other}/${otherId}\n`);
    expect(nested.podOf(`0::${prefix}/burstable/pod${uid}/${id}\n`)).toEqual(pod);
    expect(nested.podOf(`0::/kubepods/burstable/pod${uid}/${id}\n`)).toBeUndefined();
  });

  it("is looked for below --cgroup-root by an agent that is no pod", () => {
    const agent = new PodCgroups("0::/\n", "/k8s/");
    expect(agent.podOf(`0::/k8s/kubepods/pod${uid}/${id}\n`)).toEqual(pod);
    expect(agent.podOf(`0::/kubepods/pod${uid}/${id}\n`)).toBeUndefined();
  });
});

describe("what only looks like a pod is none", () => {
  const user = "/user.slice/user-1000.slice/user@1000.service";
  it.each([
    ["a process of the node", "0::/system.slice/sshd.service\n"],
    ["a group that a user of the node made", `0::${user}/kubepods/burstable/pod${uid}/${id}\n`],
    ["the same, seen from a cgroup namespace", `0::/../../../..${user}/kubepods/burstable/pod${uid}/${id}\n`],
    [
      "the same with systemd's names",
      `0::${user}/kubepods.slice/kubepods-pod${uid_}.slice/cri-containerd-${id}.scope\n`,
    ],
    ["a service whose name contains a pod's", `0::/system.slice/kubepods-pod${uid_}.slice/docker-${id}.scope\n`],
    ["the pod's own group, without a container", `0::/kubepods/burstable/pod${uid}\n`],
    ["a UID that is cut short", `0::/kubepods/pod${uid.slice(1)}/${id}\n`],
    ["a container name that is too long", `0::/kubepods/pod${uid}/${id}a\n`],
    ["a line break in the path", `0::/x\n/kubepods/pod${uid}/${id}\n`],
    ["two pods at once", `2:cpu:/kubepods/pod${uid}/${id}\n1:pids:/kubepods/pod${other}/${otherId}\n`],
    ["two containers at once", `2:cpu:/kubepods/pod${uid}/${id}\n1:pids:/kubepods/pod${uid}/${otherId}\n`],
    ["nothing", ""],
  ])("%s", (_what, cgroups) => {
    expect(onTheNode.podOf(cgroups)).toBeUndefined();
  });

  it("and a container that makes groups with other pods' names stays itself", () => {
    for (const fake of [
      `kubepods/pod${other}/${otherId}`,
      `pod${other}/${otherId}`,
      `kubepods.slice/kubepods-pod${other_}.slice/cri-containerd-${otherId}.scope`,
    ]) {
      expect(onTheNode.podOf(`0::/kubepods/burstable/pod${uid}/${id}/${fake}\n`)).toEqual(pod);
      expect(onTheNode.podOf(`0::/../../pod${uid}/${id}/${fake}\n`)).toEqual(pod);
    }
  });

  it("whatever stands in the file", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => expect(onTheNode.podOf(text)).toBeUndefined()));
  });
});
