import type { Resource } from "../../runtime/wire.ts";

export const podDisruptionBudgets: Resource = {
  group: "policy",
  version: "v1",
  plural: "poddisruptionbudgets",
  kind: "PodDisruptionBudget",
  namespaced: true,
};

export const webhookConfigurations: Resource = {
  group: "admissionregistration.k8s.io",
  version: "v1",
  plural: "validatingwebhookconfigurations",
  kind: "ValidatingWebhookConfiguration",
  namespaced: false,
};

/** Name of the webhook in its configuration, as users see it in a refusal. */
export const WEBHOOK_NAME = "eviction.typevisor.io";

/** Owns what this controller writes. */
export const FIELD_MANAGER = "typevisor-eviction";

/** On each migration that an eviction brought about: UID of the pod that was to be evicted. */
export const EVICTED_POD_LABEL = "typevisor.io/evicted-pod";
