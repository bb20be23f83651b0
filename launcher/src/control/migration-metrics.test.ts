import { describe, expect, it } from "@jest/globals";
import type { MigrationStatus } from "../../api/migration.ts";
import { migrationMetrics } from "./migration-metrics.ts";

const progress = {
  rounds: 3,
  sentBytes: 1000,
  remainingBytes: 200,
  diskSentBytes: 30,
  diskRemainingBytes: 4,
  bytesPerSecond: 500,
  dirtyBytesPerSecond: 50,
  throttle: 0.2,
};

const valuesOf = (status: MigrationStatus | undefined) =>
  Object.fromEntries([...migrationMetrics(() => status)()].map(({ name, samples }) => [name, samples[0]?.[1]]));

describe("the metrics of a migration", () => {
  it.each(["Connecting", "Copying", "HandingOver", "Committed", "Undecided"] as const)(
    "say how far it is while %s",
    (phase) => {
      expect(valuesOf({ role: "source", phase, message: "", progress })).toEqual({
        typevisor_vm_migration_data_processed_bytes: 1030,
        typevisor_vm_migration_data_remaining_bytes: 204,
        typevisor_vm_migration_transfer_rate_bytes: 500,
        typevisor_vm_migration_dirty_memory_rate_bytes: 50,
        typevisor_vm_migration_passes: 3,
        typevisor_vm_migration_throttle_ratio: 0.2,
      });
    },
  );

  it.each<[string, MigrationStatus | undefined]>([
    ["was ever asked for", undefined],
    ["goes away from here", { role: "target", phase: "Receiving", message: "" }],
    ["is there", { role: "none", phase: null, message: "" }],
    ["is left, since it failed", { role: "source", phase: "Failed", message: "", progress }],
    ["is left, since it is done", { role: "source", phase: "Gone", message: "", progress }],
  ])("are none where none %s", (_, status) => {
    expect(valuesOf(status)).toEqual({});
  });
});
