import { describe, expect, it } from "@jest/globals";
import { checkJournal, contentOf, JOURNAL_BYTES, JournalBroken, SECTOR_BYTES } from "./journal.ts";

const SLOT_SECTORS = 28;
const HOME = 4 * SLOT_SECTORS;

/** A disk on which what `journal.c` does was done up to `steps` steps: 6 blocks, a commit and 6 homes a transaction. */
function diskAfter(steps: number): Buffer {
  const disk = Buffer.alloc(JOURNAL_BYTES);
  for (let step = 0; step < steps; step++) {
    const transaction = Math.floor(step / 13) + 1;
    const at = step % 13;
    const slot = (transaction % 4) * SLOT_SECTORS;
    if (at < 6) write(disk, transaction, slot + at * 4, 4);
    else if (at === 6) write(disk, transaction, slot + 24, 1);
    else write(disk, transaction, HOME + (((transaction * 6 + at - 7) * 11) % 64) * 4, 4);
  }
  return disk;
}

function write(disk: Buffer, transaction: number, sector: number, count: number): void {
  for (let i = 0; i < count; i++) contentOf(BigInt(transaction), sector + i).copy(disk, (sector + i) * SECTOR_BYTES);
}

describe("the check of a disk after a power cut", () => {
  it("takes it at every moment, for what was durable by then", () => {
    for (let steps = 0; steps < 13 * 8; steps++) {
      const committed = Math.floor((steps + 6) / 13);
      expect(checkJournal(diskAfter(steps), committed)).toBe(committed);
    }
  });

  it.each<[string, (disk: Buffer) => void]>([
    ["a commit that was said to be durable is lost", (disk) => disk.fill(0, 24 * SECTOR_BYTES, 25 * SECTOR_BYTES)],
    ["a block is lost that was written before its commit", (disk) => write(disk, 4, 1, 1)],
    ["a block came home before its commit was durable", (disk) => write(disk, 9, HOME + ((54 * 11) % 64) * 4, 1)],
    ["a block did not come home by the next flush", (disk) => write(disk, 3, HOME + ((7 * 6 * 11) % 64) * 4, 1)],
    ["a sector is torn", (disk) => disk.fill(0, 256, SECTOR_BYTES)],
    ["a sector is where another belongs", (disk) => disk.copyWithin(0, SECTOR_BYTES, 2 * SECTOR_BYTES)],
  ])("notices when %s", (_what, harm) => {
    const disk = diskAfter(13 * 8);
    expect(checkJournal(disk, 8)).toBe(8);
    harm(disk);
    expect(() => checkJournal(disk, 8)).toThrow(JournalBroken);
  });
});
