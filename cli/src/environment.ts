import type { ReadStream } from "node:tty";

/** A stream that text goes to; terminals have a size. */
export interface Output {
  write(bytes: string | Uint8Array): boolean;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  on?(event: "resize" | "drain", listener: () => void): unknown;
  off?(event: "resize" | "drain", listener: () => void): unknown;
}

/** All that a command has of the process that it runs in. */
export interface Environment {
  readonly stdin: NodeJS.ReadableStream & Partial<Pick<ReadStream, "isTTY" | "setRawMode">>;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  /** How to run this program again: ssh does, for its connection. */
  readonly self: readonly string[];
}

/** Which cluster and namespace, as kubectl's flags of the same names. */
export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
}

export function say(environment: Pick<Environment, "stderr">, sentence: string): void {
  environment.stderr.write(`${sentence}\n`);
}
