import type { Rule } from "./rules.ts";

/** A rule of this version only. `at` is the schema node that it belongs to: dots between fields, [] for a list's entries. */
export interface NotYet extends Rule {
  readonly at: string;
}

/** What the API has and this version does not do. Making one work is to delete its line. */
export const notYet: readonly NotYet[] = [
  ...["readinessProbe", "livenessProbe"].map((probe) => ({
    at: `spec.${probe}`,
    rule: "!has(self.exec)",
    message: `spec.${probe}.exec is not available in this version: it needs an agent in the guest; use httpGet or tcpSocket`,
    fieldPath: ".exec",
  })),
];
