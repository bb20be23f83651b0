/** What the administrator set for imports. */
export interface ImportSettings {
  readonly image: string;
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never";
  readonly imagePullSecrets: readonly string[];
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly listenAddress: string;
  readonly telemetryPort: number;
  readonly cpuRequest: string;
  readonly memoryRequest: string;
  readonly memoryLimit: string;
  /** Delay after the first failure; doubles up to the other one. */
  readonly backOffMinMs: number;
  readonly backOffMaxMs: number;
}
