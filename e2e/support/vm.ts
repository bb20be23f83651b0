import { randomUUID } from "node:crypto";
import type { VirtualMachineManifest } from "../../crds/src/virtualmachine.ts";
import type { VirtualMachineMigrationManifest } from "../../crds/src/virtualmachinemigration.ts";
import { eventually } from "./eventually.ts";
import type { Kubectl, Session } from "./kubectl.ts";

export const TEST_GUEST_READY = /TYPEVISOR TESTGUEST READY/;

type Spec = VirtualMachineManifest["spec"];

/** A VM of the test guest: 32 MiB, one processor, off 5 s after it is asked to stop. `spec` overrides. */
export function testGuest(name: string, spec: Partial<Spec> = {}, cmdline = ""): VirtualMachineManifest {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name, labels: { app: name } },
    spec: {
      memory: { size: "32Mi" },
      boot: { kernel: { image: { reference: TEST_GUEST_IMAGE }, path: "/boot/testguest", cmdline } },
      terminationGracePeriodSeconds: 5,
      ...spec,
    },
  };
}

export const TEST_GUEST_IMAGE = "docker.io/typevisor/testguest:dev";

/** A disk of 8 MiB in KubeVirt's layout, whose every 64-bit word says at which byte it stands (hack/images/containerdisk.ts). */
export const CONTAINER_DISK_IMAGE = "docker.io/typevisor/containerdisk:dev";

export function migrationManifest(
  name: string,
  spec: VirtualMachineMigrationManifest["spec"],
): VirtualMachineMigrationManifest {
  return { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachineMigration", metadata: { name }, spec };
}

/** The pod that the operator makes for a VM. */
export function podOf(name: string): string {
  return `vm-${name}`;
}

/** Says a line to the test guest of a VM, and waits for its answer. */
export async function tellGuest(kubectl: Kubectl, name: string, line: string, answer: RegExp): Promise<void> {
  await tellPod(kubectl, podOf(name), line, answer);
}

/** The same to the test guest in a pod, which is another one once the VM has moved. */
export async function tellPod(kubectl: Kubectl, pod: string, line: string, answer: RegExp): Promise<void> {
  await using session = await openConsole(kubectl, pod, pod);
  session.write(`${line}\r`);
  await session.expect(answer);
}

/** Makes sure that the test guest of a VM answers now: with a word that its console has not shown before. */
export async function guestAnswers(kubectl: Kubectl, name: string): Promise<void> {
  const word = randomUUID();
  await tellGuest(kubectl, name, `echo ${word}`, new RegExp(`^${word}`, "m"));
}

/** A console that has shown what the test guest said. A kubelet that has only just started does not know its pods. */
export function openConsole(kubectl: Kubectl, name: string, pod = podOf(name)): Promise<Session> {
  return eventually(`the console of ${name}`, 60_000, async () => {
    const session = kubectl.interactive(["exec", "-i", pod, "--", "console"]);
    try {
      await session.expect(TEST_GUEST_READY, 30_000);
      return session;
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
  });
}

/** Time for a datagram and its answer, on emulated nodes, too. */
const ANSWER_TIMEOUT_MS = 120_000;

/** What comes back to a datagram of the test guest, as hexadecimal digits; it is sent again until something does. */
export async function answerTo(console: Session, frame: string, pattern: string): Promise<string> {
  return eventually("an answer to the guest", ANSWER_TIMEOUT_MS, async () => {
    console.write(`netask ${frame}\r`);
    try {
      return (await console.expect(new RegExp(`net answer (${pattern})\\r?\\n`), 15_000))[1];
    } catch (error) {
      // Ends the wait, if it is still on.
      console.write("enough\r");
      throw error;
    }
  });
}
