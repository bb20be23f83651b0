import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { ConsoleUser } from "../lib/guest-console.ts";
import { checkJournal, JOURNAL_BYTES } from "./journal.ts";

/** Machines of the test guest, each on a disk that outlasts it, which end together. */
export interface Victim {
  readonly name: string;
  /** What the disks are, each of a machine of its own. */
  readonly disks: readonly string[];
  /** Starts the machine of a disk, whose guest runs `command`. */
  start(disk: string, command: string): Promise<ConsoleUser>;
  /** Ends all of them without a word, at once. */
  kill(): Promise<void>;
  /** The first bytes of a disk as they are after that. */
  readDisk(disk: string, lengthBytes: number): Promise<Buffer>;
}

/** What became of one disk. */
export interface Cut {
  readonly disk: string;
  /** The last transaction that the guest had said was durable. */
  readonly acknowledged: number;
  /** The last one that was. */
  readonly committed: number;
}

/** How many transactions go by before one moment is chosen within the next. */
const MOST_TRANSACTIONS = 12;
const MOST_WAIT_MS = 40;
const DURABLE = /durable (\d+)\r\n/g;

/** Cuts a victim's power at random moments of the load, each time going on from what was committed. */
export async function cutPower(victim: Victim, moments: number, told: (cut: Cut) => void = () => {}): Promise<void> {
  const committed = new Map<string, number>();
  for (let moment = 1; moment <= moments; moment++) {
    const plan = { transactions: randomInt(MOST_TRANSACTIONS), waitMs: randomInt(MOST_WAIT_MS) };
    try {
      for (const cut of await cutOnce(victim, committed, plan)) {
        committed.set(cut.disk, cut.committed);
        told(cut);
      }
    } catch (error) {
      const when = `${plan.waitMs} ms after ${plan.transactions} more transactions`;
      throw new Error(`${victim.name}, power cut ${moment} (${when}): ${String(error)}`, { cause: error });
    }
  }
}

interface Plan {
  readonly transactions: number;
  readonly waitMs: number;
}

async function cutOnce(victim: Victim, committed: ReadonlyMap<string, number>, plan: Plan): Promise<Cut[]> {
  const consoles = new Map<string, ConsoleUser>();
  try {
    for (const disk of victim.disks) {
      // As after a journal was replayed: what its last transaction did is done again.
      const first = Math.max(1, committed.get(disk) ?? 0);
      const console = await victim.start(disk, `blkjournal 0 ${first}`);
      consoles.set(disk, console);
      await console.see(`durable ${first + plan.transactions}\r\n`);
    }
    // The moment is to be a random one.
    await delay(plan.waitMs);
  } finally {
    await victim.kill();
  }
  const cuts: Cut[] = [];
  for (const [disk, console] of consoles) {
    console.close();
    const acknowledged = Math.max(...Array.from(console.text.matchAll(DURABLE), ([, said]) => Number(said)));
    const content = await victim.readDisk(disk, JOURNAL_BYTES);
    cuts.push({ disk, acknowledged, committed: checkJournal(content, acknowledged) });
  }
  return cuts;
}
