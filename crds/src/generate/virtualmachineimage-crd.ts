import { virtualMachineImage } from "../virtualmachineimage.ts";
import { customResourceDefinition, kindSchema, type PrinterColumn, type ResourceNames } from "./custom-resource.ts";
import type { StructuralSchema } from "./structural-schema.ts";

const printerColumns: readonly PrinterColumn[] = [
  {
    name: "Ready",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Ready')].status",
    description: "Whether the source can be used, and no import of it fails.",
  },
  { name: "Format", type: "string", jsonPath: ".status.format", description: "What the source is." },
  { name: "Size", type: "string", jsonPath: ".status.virtualSize", description: "Size of the disk." },
  { name: "Progress", type: "string", jsonPath: ".status.progress", description: "Of the import that is least far." },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since it was created." },
  {
    name: "Reason",
    type: "string",
    jsonPath: ".status.conditions[?(@.type=='Ready')].reason",
    description: "Why it is ready or not.",
    priority: 1,
  },
  { name: "URL", type: "string", jsonPath: ".spec.source.http.url", description: "Where it comes from.", priority: 1 },
];

export const virtualMachineImageNames = {
  kind: "VirtualMachineImage",
  listKind: "VirtualMachineImageList",
  plural: "virtualmachineimages",
  singular: "virtualmachineimage",
  shortNames: ["vmimage"],
  categories: ["typevisor"],
} as const satisfies ResourceNames;

export function virtualMachineImageSchema(): StructuralSchema {
  return kindSchema(virtualMachineImage, virtualMachineImageNames.kind);
}

export function virtualMachineImageCrd() {
  return customResourceDefinition(virtualMachineImageNames, printerColumns, virtualMachineImageSchema());
}
