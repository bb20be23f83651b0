import { z } from "zod";
import type { Reason } from "./reasons.ts";
import { listMap } from "./rules.ts";

/** Types of conditions, all present from the first status on, and what each says when True. */
export const conditionTypes = {
  Ready: "The machine does what its spec asks: it runs, or it is off and shall be.",
  Reconciling: "Something is under way towards the spec. Abnormal while True for long.",
  Stalled: "Nothing more will happen until someone changes something; the message says what.",
  Running: "The guest's processors run or are paused: the machine exists on a node.",
  Paused: "The guest's processors are stopped and its memory is kept.",
  Migratable: "The machine can move to another node while it runs.",
  Migrating: "The machine is moving to another pod while it runs.",
  RestartRequired: "The spec, or Typevisor's launcher, has changed in a way that takes effect at the next restart.",
} as const satisfies Record<string, string>;

export type ConditionType = keyof typeof conditionTypes;

/**
 * What a status is about. The API server fills in -1 where nothing was written yet: without it, kstatus (Flux, Helm's --wait
 * of version 4) takes an object without conditions for one that is up to date.
 */
export const observedGeneration = z
  .int()
  .min(-1)
  .describe("The metadata.generation that this status is about; -1 while Typevisor has not seen the object.")
  .exactOptional();

/** Status of an object that no controller has seen. */
export const UNSEEN_STATUS = { observedGeneration: -1 } as const;

/** As metav1.Condition. Types and reasons are open strings here, so that a newer operator's status is not refused. */
export const condition = z.strictObject({
  type: z.string().min(1).max(316).describe("What the condition is about, e.g. Ready."),
  status: z.enum(["True", "False", "Unknown"]).describe("Whether it holds."),
  observedGeneration: z.int().min(0).describe("The metadata.generation that the condition is about."),
  lastTransitionTime: z.string().meta({ format: "date-time" }).describe("When status last changed."),
  reason: z.string().min(1).max(1024).describe("Why, in one word; docs/api.md lists them all."),
  message: z.string().max(32768).describe("Why, for a person, and what to do next."),
});

export const conditions = listMap(z.array(condition).max(32), "type").describe(
  `State in detail. ${Object.entries(conditionTypes)
    .map(([type, meaning]) => `${type}: ${meaning}`)
    .join(" ")}`,
);

/** A condition as the operator writes it. */
export interface Condition extends z.output<typeof condition> {
  type: ConditionType;
  reason: Reason;
}
