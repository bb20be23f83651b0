/** docs/troubleshooting.md: from a condition's reason to what to do. */
import { type Reason, reasons } from "../reasons.ts";

/** Reasons of a machine that is well or on its way, and of events that only tell. */
const harmless: ReadonlySet<Reason> = new Set<Reason>([
  "AsExpected",
  "Pending",
  "Scheduled",
  "Starting",
  "Running",
  "Paused",
  "Pausing",
  "Resuming",
  "Stopping",
  "Halted",
  "Completed",
  "Restarting",
  "Deleting",
  "SourceNotTried",
  "Importing",
  "ImportWaiting",
  "ImportCompleted",
  "Migrating",
  "MigrationPending",
  "MigrationPreparing",
  "MigrationHandingOver",
  "MigrationFinishing",
  "MigrationCancelling",
  "MigrationSucceeded",
  "MigrationCancelled",
  "GuestPowerOff",
  "Stopped",
  "ClaimCreated",
  "PodCreated",
  "PodDeletedByOperator",
]);

const HEAD = `# Troubleshooting

Generated from \`crds/src/reasons.ts\` by \`hack/generate\`; do not edit.

1. \`kubectl vm describe NAME\` (or \`kubectl describe vm NAME\`) shows conditions, the last termination and events. The
   condition \`Ready\` has a reason, and a message for the case at hand: that message comes first, this page second.
2. \`Stalled\` True means that nothing more will happen until someone changes something. \`Reconciling\` True means that it is
   still being worked on: wait, or see what it waits for.
3. \`kubectl vm logs NAME\` is the launcher's log; \`kubectl vm console NAME\` what the guest itself said.
4. Nothing runs at all: \`kubectl vm doctor\` looks at the cluster.
`;

export function troubleshooting(): string {
  const troubles = (Object.keys(reasons) as Reason[]).filter((reason) => !harmless.has(reason));
  const sections = troubles.map((reason) => `## ${reason}\n${reasons[reason]}\n`);
  return [HEAD, ...sections].join("\n");
}
