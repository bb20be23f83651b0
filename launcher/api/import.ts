/**
 * Import contract: who fills a volume (the operator) to the importer. `launcher import CONFIG_JSON` writes the disk of one
 * source, whatever its format, as a raw disk into one volume, and ends.
 *
 * Telemetry port, plain HTTP: GET /progress -> ImportProgress; /healthz.
 * The last word is an ImportTermination in the termination message; the exit code is `importExitCodes[reason]`.
 */

export const IMPORT_VERSION = 1;

export interface ImportConfig {
  readonly version: typeof IMPORT_VERSION;
  readonly source: ImportSource;
  readonly target: ImportTargetConfig;
  /** For what a disk does not take in the order of its qcow2 file: needs at most as much room as that file has bytes. */
  readonly scratchDirectory: string;
  /** What it may take beside page cache; 64 MiB without. What is above 48 MiB is for the window of xz and zstd. */
  readonly memoryBytes?: number;
  /** The node agent, which opens block devices; without it they are opened here. */
  readonly agentSocketPath?: string;
  readonly telemetry?: { readonly address: string; readonly port: number };
  readonly terminationMessagePath?: string;
  readonly log: { readonly level: "debug" | "info" | "warn" | "error" };
}

export type ImportSource =
  /** A file of a server: raw or qcow2, as it is or compressed (gzip, xz, zstd). */
  | {
      readonly kind: "http";
      readonly url: string;
      /** Of the file as the server has it; hexadecimal. */
      readonly checksum?: { readonly algorithm: "sha256" | "sha512"; readonly digest: string };
      /** Files `username` and `password`, or `token`, and `headers` (a "Name: value" a line), as far as they exist. */
      readonly credentialsDirectory?: string;
      /** Its files are PEM certificates of authorities that are trusted beside the well-known ones. */
      readonly authoritiesDirectory?: string;
    }
  /** The disk of an image by the containerDisk convention, raw or qcow2: the one file in `imageRoot`/disk, or `path`. */
  | { readonly kind: "image"; readonly imageRoot: string; readonly path?: string }
  /** Another disk as a guest left it, taken as raw whatever it begins with: a device, or disk.img in a directory. */
  | { readonly kind: "disk"; readonly volume: { readonly kind: "directory" | "device"; readonly path: string } };

export interface ImportTargetConfig {
  /** "directory" gets the file disk.img, made anew. */
  readonly kind: "directory" | "device";
  readonly path: string;
  /** The volume's size: the disk must not be larger. */
  readonly sizeBytes: number;
}

export type ImportStage = "Starting" | "Transferring" | "Finishing";

export interface ImportProgress {
  readonly version: typeof IMPORT_VERSION;
  readonly stage: ImportStage;
  /** Bytes of the source, as it is stored there. */
  readonly doneBytes: number;
  /** Null while that is not known. */
  readonly totalBytes: number | null;
  readonly bytesPerSecond: number;
  /** e.g. "qcow2", "raw", "raw in xz"; null until it is known. */
  readonly format: string | null;
  /** Size of the disk; null until it is known. */
  readonly diskBytes: number | null;
  /** How often the transfer was taken up again after a failure. */
  readonly resumed: number;
  /** What keeps the transfer from going on now; it is tried again, from where it is. */
  readonly trouble?: ImportTrouble;
}

export interface ImportTrouble {
  readonly reason: ImportReason;
  readonly message: string;
}

/** Written to the termination message file when the importer ends. */
export interface ImportTermination {
  readonly version: typeof IMPORT_VERSION;
  readonly reason: ImportReason;
  /** A sentence: what happened with its figures, and what to do next where something can be done. */
  readonly message: string;
  readonly progress: ImportProgress;
}

export const importExitCodes = {
  /** All is in the volume, and durable. */
  Completed: 0,
  /** The configuration is wrong. */
  ConfigInvalid: 64,
  /** The server cannot be found, reached or trusted, or does not answer in time. */
  SourceUnreachable: 65,
  /** The server answers with an error. */
  SourceRefused: 66,
  /** The source ends before it should, or stalls again and again. */
  SourceIncomplete: 67,
  /** The file at the server became another one in the middle. */
  SourceChanged: 68,
  /** What the source has is no disk: a path out of its root, a file too many, a damaged file. */
  SourceInvalid: 69,
  /** Another one writes to the source. */
  SourceInUse: 70,
  ChecksumMismatch: 71,
  /** A format that is not read here, or a disk that needs another file (a backing file). */
  FormatUnsupported: 72,
  /** The disk is larger than the volume. */
  TargetTooSmall: 73,
  /** The volume cannot be written. */
  TargetFailed: 74,
  /** The scratch directory cannot be written. */
  ScratchFailed: 75,
  /** The node agent does not answer or refuses. */
  AgentUnavailable: 76,
  /** Asked to stop. */
  Stopped: 77,
  /** A defect of the importer itself. */
  ImporterError: 90,
} as const;

export type ImportReason = keyof typeof importExitCodes;

/** Ends that come again whatever is done, until the source, the volume or what is asked for is another one. */
export const LASTING_IMPORT_REASONS: ReadonlySet<ImportReason> = new Set([
  "ConfigInvalid",
  "SourceInvalid",
  "ChecksumMismatch",
  "FormatUnsupported",
  "TargetTooSmall",
]);
