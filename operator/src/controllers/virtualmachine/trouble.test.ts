import { describe, expect, it } from "@jest/globals";
import type { Pod } from "../../runtime/wire.ts";
import { decide } from "./decide.ts";
import type { PodWarning } from "./observation.ts";
import { at, container, machine, NOW_MS, observation, podOf, settings } from "./testing/fixtures.ts";

const vm = machine();
const secret = { name: "disk-conf", secret: { secretName: "web-conf" } };
const configMap = { name: "disk-files", configMap: { name: "web-files" } };
const claim = { name: "disk-data", persistentVolumeClaim: { claimName: "web-data" } };

/** A pod that its node works on, with these volumes beside its own. */
function waitingPod(changes: Partial<NonNullable<Pod["status"]>> = {}): Pod {
  const pod = podOf(vm, "scheduled");
  pod.spec?.volumes?.push(secret, configMap, claim);
  pod.status = {
    ...pod.status,
    containerStatuses: [container({ waiting: { reason: "ContainerCreating" } })],
    ...changes,
  };
  return pod;
}

const warn = (reason: PodWarning["reason"], note: string, secondsAgo = 0): PodWarning => ({
  reason,
  note,
  atMs: NOW_MS - secondsAgo * 1000,
});

/** What the status says of the machine, and the events. */
function outcome(pod: Pod, warnings: readonly PodWarning[] | undefined, previous = vm) {
  const decision = decide(observation(previous, { pod, warnings }), settings, NOW_MS);
  const write = decision.actions.find((action) => action.kind === "write-status");
  const status = write?.kind === "write-status" ? write.status : previous.status;
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  const reconciling = status?.conditions?.find(({ type }) => type === "Reconciling");
  const events = write?.kind === "write-status" ? write.events : [];
  return { reason: ready?.reason, message: ready?.message, reconciling: reconciling?.status, events, status };
}

describe("a pod that its node cannot start", () => {
  it.each<[string, PodWarning["reason"], string, string, RegExp]>([
    [
      "a Secret of a disk is missing",
      "FailedMount",
      'MountVolume.SetUp failed for volume "disk-conf" : secret "web-conf" not found',
      "SecretNotFound",
      /^Secret web-conf of spec\.disks\[conf\] does not exist; create it, or correct the name$/,
    ],
    [
      "a ConfigMap of a disk is missing",
      "FailedMount",
      'MountVolume.SetUp failed for volume "disk-files" : configmap "web-files" not found',
      "VolumeNotReady",
      /^ConfigMap web-files of spec\.disks\[files\] does not exist; create it/,
    ],
    [
      "a Secret lacks a key",
      "FailedMount",
      'MountVolume.SetUp failed for volume "disk-conf" : references non-existent secret key: userdata',
      "VolumeNotReady",
      /spec\.disks\[conf\] \(Secret web-conf\).*node-1: references non-existent secret key: userdata/,
    ],
    [
      "somebody deleted the machine's own Secret",
      "FailedMount",
      'MountVolume.SetUp failed for volume "machine" : secret "vm-web-0f9a6c1e" not found',
      "VolumeNotReady",
      /own Secret.*delete pod vm-web/,
    ],
    [
      "a claim is not bound",
      "FailedMount",
      "Unable to attach or mount volumes: unmounted volumes=[disk-data], unattached volumes=[], failed to process volumes=[disk-data]: error processing PVC shop/web-data: PVC is not bound",
      "VolumeNotReady",
      /PersistentVolumeClaim web-data.*PVC is not bound/,
    ],
    [
      "another node has the volume, which goes by its own name",
      "FailedAttachVolume",
      'Multi-Attach error for volume "pvc-77" Volume is already exclusively attached to one node and can\'t be attached to another',
      "VolumeNotReady",
      /^A volume \(PersistentVolumeClaim web-data\).*Multi-Attach error for volume "pvc-77"/,
    ],
    [
      "a block device cannot be mapped",
      "FailedMapVolume",
      'MapVolume.MapPodDevice failed for volume "pv-1" : no such device',
      "VolumeNotReady",
      /PersistentVolumeClaim web-data.*no such device/,
    ],
    [
      "the boot image cannot be mounted",
      "FailedMount",
      'MountVolume.SetUp failed for volume "boot-image" : input/output error',
      "VolumeNotReady",
      /spec\.boot\.kernel\.image \(image registry\.example\/debian:13\).*input\/output error/,
    ],
    [
      "its sandbox cannot be made",
      "FailedCreatePodSandBox",
      "Failed to create pod sandbox: rpc error: plugin type=bridge failed",
      "ContainerNotStarted",
      /^Node node-1: Failed to create pod sandbox.*network plugin/,
    ],
    [
      "the node has no network yet",
      "NetworkNotReady",
      "network is not ready: cni plugin not initialized",
      "ContainerNotStarted",
      /cni plugin not initialized/,
    ],
  ])("as %s, says so in condition and event", (_, warning, note, reason, message) => {
    const found = outcome(waitingPod(), [warn(warning, note)]);
    expect(found).toMatchObject({ reason, reconciling: "True", status: { phase: "Pending" } });
    expect(found.message).toMatch(message);
    expect(found.events).toEqual([{ type: "Warning", reason, action: "Reconcile", note: found.message }]);
  });

  it("names the Secret without which its image cannot be pulled", () => {
    const waiting = { reason: "ErrImagePull", message: "pull access denied" };
    const pod = waitingPod({ containerStatuses: [container({ waiting })] });
    const note = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.";
    const found = outcome(pod, [warn("FailedToRetrieveImagePullSecret", note)]);
    expect(found.reason).toBe("SecretNotFound");
    expect(found.message).toMatch(/Secret regcred.*pull access denied.*spec\.template\.spec\.imagePullSecrets/);
  });

  it("is not held up by a Secret for pulling that nothing needed", () => {
    const note = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.";
    expect(outcome(waitingPod(), [warn("FailedToRetrieveImagePullSecret", note)]).reason).toBe("Scheduled");
  });

  it("says what was warned of last", () => {
    const mount = warn(
      "FailedMount",
      'MountVolume.SetUp failed for volume "disk-conf" : secret "web-conf" not found',
      60,
    );
    const sandbox = warn("FailedCreatePodSandBox", "Failed to create pod sandbox: no address", 5);
    expect(outcome(waitingPod(), [mount, sandbox]).reason).toBe("ContainerNotStarted");
    expect(outcome(waitingPod(), [sandbox, { ...mount, atMs: NOW_MS }]).reason).toBe("SecretNotFound");
  });

  it("forgets what held it up once its volumes are mounted and its sandbox is made", () => {
    const conditions = [{ type: "PodReadyToStartContainers", status: "True", lastTransitionTime: at(-1) }];
    const mount = warn("FailedMount", 'MountVolume.SetUp failed for volume "disk-conf" : secret "web-conf" not found');
    expect(outcome(waitingPod({ conditions }), [mount]).reason).toBe("Scheduled");
  });

  it("keeps its reason while a new operator has not read the events yet, and no longer", () => {
    const mount = warn("FailedMount", 'MountVolume.SetUp failed for volume "disk-conf" : secret "web-conf" not found');
    const before = { ...vm, status: outcome(waitingPod(), [mount]).status ?? {} };
    expect(outcome(waitingPod(), undefined, before)).toMatchObject({ reason: "SecretNotFound", events: [] });
    expect(outcome(waitingPod(), [], before).reason).toBe("Scheduled");
    const anotherPod = { ...before, status: { ...before.status, podUID: "another" } };
    expect(outcome(waitingPod(), undefined, anotherPod).reason).toBe("Scheduled");
  });
});
