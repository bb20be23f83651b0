import { notYet } from "../not-yet.ts";
import { virtualMachine } from "../virtualmachine.ts";
import { customResourceDefinition, kindSchema, type ResourceNames } from "./custom-resource.ts";
import { nodeAt, type StructuralSchema } from "./structural-schema.ts";

/** `kubectl get vm`; priority 1 shows with `-o wide` only. */
const printerColumns = [
  { name: "Phase", type: "string", jsonPath: ".status.phase", description: "Summary of the state." },
  {
    name: "Ready",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Ready')].status",
    description: "Whether the machine does what its spec asks.",
  },
  { name: "Node", type: "string", jsonPath: ".status.node", description: "Node that the machine is on." },
  { name: "IP", type: "string", jsonPath: ".status.podIP", description: "IP address of the machine's pod." },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since it was created." },
  { name: "CPU", type: "integer", jsonPath: ".spec.cpu.cores", description: "Virtual processors.", priority: 1 },
  { name: "Memory", type: "string", jsonPath: ".spec.memory.size", description: "Memory of the guest.", priority: 1 },
  {
    name: "Run",
    type: "string",
    jsonPath: ".spec.runStrategy",
    description: "When the machine runs.",
    priority: 1,
  },
  {
    name: "Migratable",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Migratable')].status",
    description: "Whether the machine can move to another node while it runs.",
    priority: 1,
  },
  { name: "Restarts", type: "integer", jsonPath: ".status.restarts", description: "Times started again.", priority: 1 },
  {
    name: "Reason",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Ready')].reason",
    description: "Why the machine is ready or not.",
    priority: 1,
  },
] as const;

/** Names that kubectl takes for the kind. */
export const virtualMachineNames = {
  kind: "VirtualMachine",
  listKind: "VirtualMachineList",
  plural: "virtualmachines",
  singular: "virtualmachine",
  shortNames: ["vm"],
  categories: ["typevisor"],
} as const satisfies ResourceNames;

/** Schema of a VirtualMachine with the rules of this version. */
export function virtualMachineSchema(): StructuralSchema {
  const root = kindSchema(virtualMachine, virtualMachineNames.kind);
  for (const { at, ...rule } of notYet) {
    const node = nodeAt(root, at);
    node["x-kubernetes-validations"] = [...(node["x-kubernetes-validations"] ?? []), rule];
  }
  return root;
}

/** The CustomResourceDefinition of VirtualMachine, as apiextensions.k8s.io/v1 takes it. */
export function virtualMachineCrd() {
  return customResourceDefinition(virtualMachineNames, printerColumns, virtualMachineSchema());
}
