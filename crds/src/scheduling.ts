/** Where the pod may run: fields and meaning as in a PodSpec, so descriptions are short. */
import { z } from "zod";
import { atomic } from "./rules.ts";

const strings = (description: string) => atomic(z.array(z.string()).describe(description)).exactOptional();

const labelSelector = atomic(
  z.strictObject({
    matchLabels: z.record(z.string(), z.string()).describe("Labels that must have these values.").exactOptional(),
    matchExpressions: atomic(
      z.array(
        z.strictObject({
          key: z.string().describe("Label key."),
          operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]).describe("How the label relates to values."),
          values: strings("Values for In and NotIn; empty for Exists and DoesNotExist."),
        }),
      ),
    )
      .describe("Requirements on labels, all of which must hold.")
      .exactOptional(),
  }),
);

const nodeRequirements = (description: string) =>
  atomic(
    z
      .array(
        z.strictObject({
          key: z.string().describe("Label or field key."),
          operator: z
            .enum(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
            .describe("How the label or field relates to values."),
          values: strings("Values for In and NotIn, one integer for Gt and Lt, none otherwise."),
        }),
      )
      .describe(description),
  ).exactOptional();

const nodeSelectorTerm = atomic(
  z.strictObject({
    matchExpressions: nodeRequirements("Requirements on the node's labels."),
    matchFields: nodeRequirements("Requirements on the node's fields."),
  }),
);

const weight = z.int().min(1).max(100).describe("Weight of the preference, 1 to 100.");

const nodeAffinity = z.strictObject({
  requiredDuringSchedulingIgnoredDuringExecution: atomic(
    z.strictObject({
      nodeSelectorTerms: atomic(z.array(nodeSelectorTerm)).describe("Terms, one of which must hold."),
    }),
  )
    .describe("What a node must have.")
    .exactOptional(),
  preferredDuringSchedulingIgnoredDuringExecution: atomic(
    z.array(z.strictObject({ weight, preference: nodeSelectorTerm.describe("What the node should have.") })),
  )
    .describe("What a node should rather have.")
    .exactOptional(),
});

const podAffinityTerm = z.strictObject({
  labelSelector: labelSelector.describe("Which pods.").exactOptional(),
  matchLabelKeys: strings("Labels of the pod itself that those pods share."),
  mismatchLabelKeys: strings("Labels of the pod itself that those pods do not share."),
  namespaces: strings("Namespaces of those pods; the pod's own by default."),
  namespaceSelector: labelSelector.describe("Namespaces of those pods, by label.").exactOptional(),
  topologyKey: z.string().describe("Node label whose value says what is together, e.g. kubernetes.io/hostname."),
});

const podAffinity = (relation: string) =>
  z.strictObject({
    requiredDuringSchedulingIgnoredDuringExecution: atomic(z.array(podAffinityTerm))
      .describe(`Pods that it must be ${relation}.`)
      .exactOptional(),
    preferredDuringSchedulingIgnoredDuringExecution: atomic(
      z.array(z.strictObject({ weight, podAffinityTerm: podAffinityTerm.describe("Which pods.") })),
    )
      .describe(`Pods that it should rather be ${relation}.`)
      .exactOptional(),
  });

export const affinity = z
  .strictObject({
    nodeAffinity: nodeAffinity.describe("Which nodes.").exactOptional(),
    podAffinity: podAffinity("together with").describe("Which pods to be near.").exactOptional(),
    podAntiAffinity: podAffinity("apart from").describe("Which pods to be far from.").exactOptional(),
  })
  .describe("Which nodes, and near or far from which pods, as in Pods.");

export const tolerations = atomic(
  z.array(
    z.strictObject({
      key: z.string().describe("Taint key; all keys when empty.").exactOptional(),
      operator: z
        .enum(["Exists", "Equal", "Lt", "Gt"])
        .describe("How the taint relates to value; Equal by default.")
        .exactOptional(),
      value: z.string().describe("Value to compare with; empty for Exists.").exactOptional(),
      effect: z
        .enum(["NoSchedule", "PreferNoSchedule", "NoExecute"])
        .describe("Taint effect; all effects when absent.")
        .exactOptional(),
      tolerationSeconds: z
        .int()
        .describe("How long a NoExecute taint is tolerated, in seconds; for ever when absent.")
        .exactOptional(),
    }),
  ),
).describe("Node taints that the pod tolerates, as in Pods.");

const nodePolicy = z.enum(["Honor", "Ignore"]);

export const topologySpreadConstraints = atomic(
  z.array(
    z.strictObject({
      maxSkew: z.int().min(1).describe("How unevenly pods may be spread."),
      topologyKey: z.string().describe("Node label whose values are the domains, e.g. topology.kubernetes.io/zone."),
      whenUnsatisfiable: z.enum(["DoNotSchedule", "ScheduleAnyway"]).describe("What happens when it cannot be met."),
      labelSelector: labelSelector.describe("Which pods are counted.").exactOptional(),
      matchLabelKeys: strings("Labels of the pod itself that counted pods share."),
      minDomains: z.int().min(1).describe("Fewest domains.").exactOptional(),
      nodeAffinityPolicy: nodePolicy.describe("Whether node affinity limits the domains.").exactOptional(),
      nodeTaintsPolicy: nodePolicy.describe("Whether taints limit the domains.").exactOptional(),
    }),
  ),
).describe("How the pods of one group are spread over nodes and zones, as in Pods.");
