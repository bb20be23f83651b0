import { virtualMachineMigration } from "../virtualmachinemigration.ts";
import { customResourceDefinition, kindSchema, type PrinterColumn, type ResourceNames } from "./custom-resource.ts";
import type { StructuralSchema } from "./structural-schema.ts";

const printerColumns: readonly PrinterColumn[] = [
  { name: "VM", type: "string", jsonPath: ".spec.virtualMachineName", description: "VirtualMachine that moves." },
  { name: "Phase", type: "string", jsonPath: ".status.phase", description: "How far it is." },
  { name: "From", type: "string", jsonPath: ".status.source.node", description: "Node that it moves from." },
  { name: "To", type: "string", jsonPath: ".status.target.node", description: "Node that it moves to." },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since it was created." },
  {
    name: "Downtime",
    type: "string",
    jsonPath: ".status.result.downtimeMilliseconds",
    description: "How long the guest stood still, in milliseconds.",
    priority: 1,
  },
  { name: "Sent", type: "string", jsonPath: ".status.progress.transferred", description: "Sent so far.", priority: 1 },
  {
    name: "Remaining",
    type: "string",
    jsonPath: ".status.progress.remaining",
    description: "Left of the pass under way.",
    priority: 1,
  },
  { name: "Priority", type: "string", jsonPath: ".spec.priority", description: "Who goes first.", priority: 1 },
  {
    name: "Message",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Ready')].message",
    description: "What it waits for, or why it ended.",
    priority: 1,
  },
];

export const virtualMachineMigrationNames = {
  kind: "VirtualMachineMigration",
  listKind: "VirtualMachineMigrationList",
  plural: "virtualmachinemigrations",
  singular: "virtualmachinemigration",
  shortNames: ["vmm", "vmmigration"],
  categories: ["typevisor"],
} as const satisfies ResourceNames;

export function virtualMachineMigrationSchema(): StructuralSchema {
  return kindSchema(virtualMachineMigration, virtualMachineMigrationNames.kind);
}

export function virtualMachineMigrationCrd() {
  return customResourceDefinition(virtualMachineMigrationNames, printerColumns, virtualMachineMigrationSchema());
}
