import { z } from "zod";
import { dnsLabel } from "./names.ts";
import { exactlyOneOf, withRules } from "./rules.ts";

const INTERFACES_MAX = 8;

const bindings = {
  masquerade: z
    .strictObject({})
    .describe("The guest has a private address; traffic to and from the pod IP is translated. Survives live migration.")
    .exactOptional(),
  podIP: z.strictObject({}).describe("The guest has the pod's own IP and MAC address.").exactOptional(),
  multus: z
    .strictObject({
      networkName: z
        .string()
        .min(1)
        .max(253 + 1 + 253)
        .describe("NetworkAttachmentDefinition as NAME or NAMESPACE/NAME."),
    })
    .describe("The guest is bridged to an extra interface of the pod, made by Multus.")
    .exactOptional(),
};

const networkInterface = withRules(
  z.strictObject({
    name: dnsLabel("name", 63, "Name of the interface, unique in the machine."),
    ...bindings,
  }),
  exactlyOneOf("an interface", Object.keys(bindings)),
);

export const interfaces = z
  .array(networkInterface)
  .max(INTERFACES_MAX)
  .describe("Network interfaces in the order of the guest's PCI bus. By default one, masqueraded, on the pod network.");

export type NetworkInterface = z.output<typeof networkInterface>;
