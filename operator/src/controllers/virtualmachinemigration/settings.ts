/** The cluster's policy: the chart's values, resolved. A migration's own spec goes before it. */
export interface MigrationSettings {
  /** Most at the same time; those that wait go by priority. */
  readonly perCluster: number;
  /** And away from one node. */
  readonly perNode: number;
  /** No limit when absent. */
  readonly bandwidthBytesPerSecond?: number;
  readonly maxDowntimeMs: number;
  readonly deadlineSeconds: number;
  readonly autoConverge: boolean;
  /** How long an object is kept after its end. */
  readonly ttlSeconds: number;
}
