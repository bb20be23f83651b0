import type { Kubectl } from "../../e2e/support/kubectl.ts";

interface Item {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly generation?: number;
    readonly managedFields: readonly {
      readonly manager: string;
      readonly subresource?: string;
      readonly fieldsV1: { readonly "f:spec"?: object };
    }[];
  };
}

/**
 * A line with generation and writers of the spec for each object that the repository has. Throws where somebody else
 * than `manager` wrote a machine's.
 */
export async function specs(kubectl: Kubectl, manager: string): Promise<string> {
  const kinds = "vm,service,persistentvolumeclaim";
  const text = await kubectl.run(["get", kinds, "-o", "json", "--show-managed-fields"]);
  const { items } = JSON.parse(text) as { items: readonly Item[] };
  return items.map((item) => line(item, manager)).join("\n");
}

function line({ kind, metadata }: Item, manager: string): string {
  const { name, uid, generation, managedFields } = metadata;
  const writers = managedFields.filter(({ fieldsV1, subresource }) => fieldsV1["f:spec"] && subresource === undefined);
  const managers = writers.map((writer) => writer.manager).join(" ");
  // Claims are bound by Kubernetes' own controllers, who write the volume's name into the spec.
  if (kind === "VirtualMachine" && managers !== manager)
    throw new Error(`the spec of ${name} was written by ${managers}`);
  return `${kind} ${name} ${uid} generation ${generation} by ${managers}`;
}
