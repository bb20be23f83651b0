import type { Kubectl } from "../../e2e/support/kubectl.ts";
import type { Program } from "./program.ts";

/** How often tools look at the repository and at what they have applied. */
export const INTERVAL_SECONDS = 15;

/** What a tool says of what it applies. */
export interface Verdict {
  /** The commit that it has applied. */
  readonly commit: string | undefined;
  /** "healthy" only where it also finds no difference. */
  readonly health: "healthy" | "under way" | "failed";
  /** In its own words. */
  readonly words: string;
}

/** One way in which a tool applies a repository, into a namespace of its own. */
export interface Way {
  readonly title: string;
  /** Where the machines are to be. */
  readonly kubectl: Kubectl;
  /** The field manager under which the tool writes. */
  readonly manager: string;
  /** Has the tool apply the repository from now on. */
  follow(url: string): Promise<void>;
  verdict(): Promise<Verdict>;
  /** Whether a line of the tool's log says that it has compared the repository and the cluster. */
  readonly hasCompared: (line: string) => boolean;
  /** Whether a line of the tool's log says that it found a difference, or wrote. */
  readonly hasCorrected: (line: string) => boolean;
  /** Deletes what `follow` has made, and with it what the tool has applied. */
  forget(): Promise<void>;
}

/** A tool that runs until its `using` ends. */
export interface Tool extends AsyncDisposable {
  readonly ways: readonly Way[];
  readonly logFile: string;
  /** Throws, with the end of its log, where it has ended. */
  mustRun(): Promise<void>;
}

interface ToolParts extends Pick<Tool, "ways" | "logFile"> {
  readonly programs: readonly Program[];
}

/** The tool that these programs are. What `cleanup` has is the tool's from now on. */
export function runningTool({ ways, logFile, programs }: ToolParts, cleanup: AsyncDisposableStack): Tool {
  const owned = cleanup.move();
  return {
    ways,
    logFile,
    async mustRun() {
      for (const program of programs) await program.mustRun();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
