/** Runs a command and gives its standard output; rejects where it fails. Tests record what would be run. */
export type Runner = (argv: readonly string[], input?: string) => Promise<string>;

/** An archive of dist/images. */
export interface ImageArchive {
  /** Full image name, e.g. docker.io/typevisor/launcher:dev. */
  readonly name: string;
  /** Digest of its manifest. */
  readonly digest: string;
  readonly path: string;
}

/** The cluster that the quickstart works on. */
export interface Target {
  /** For people: "the built-in cluster". */
  readonly title: string;
  /** Makes or repairs the cluster; seconds that it should take. */
  readonly estimateSeconds: number;
  up(): Promise<void>;
  /** Brings images to the nodes, those that are not there. */
  loadImages(archives: readonly ImageArchive[]): Promise<void>;
  /** Command lines; the arguments follow. */
  readonly kubectl: readonly string[];
  readonly helm: readonly string[];
  /** Removes the cluster and all in it. Absent for one that we did not make. */
  readonly remove?: () => Promise<void>;
  /** How a person reaches it from a shell. */
  readonly kubectlHint: string;
}
