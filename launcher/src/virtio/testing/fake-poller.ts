import type { Poller, PollSource } from "../../sys/poll-source.ts";

/** Watches what woke it until it is told otherwise. */
export class FakePoller implements Poller {
  readonly sources = new Set<PollSource>();

  woken(source: PollSource): void {
    source.isWatched = true;
    this.sources.add(source);
  }

  join(source: PollSource): void {
    if (this.sources.size > 0) this.woken(source);
  }

  leave(source: PollSource): void {
    source.isWatched = false;
    this.sources.delete(source);
  }

  look(): void {
    for (const source of this.sources) if (source.isReady()) source.run();
  }

  rest(): void {
    const resting = [...this.sources];
    this.sources.clear();
    for (const source of resting) source.isWatched = false;
    for (const source of resting) if (source.rest()) source.run();
  }
}
