/**
 * What the disk of launcher/testguest/journal.c has to look like, whenever its power was cut. A transaction writes its
 * blocks to a slot of the journal, flushes, writes its commit there, flushes, says so on the console, and writes the
 * blocks to their homes, which the next transaction's first flush makes durable.
 */
export const SECTOR_BYTES = 512;
const WORDS = SECTOR_BYTES / 8;
const BLOCK_SECTORS = 4;
const BLOCKS = 6;
const SLOT_SECTORS = BLOCKS * BLOCK_SECTORS + BLOCK_SECTORS;
const SLOTS = 4;
const HOME = SLOTS * SLOT_SECTORS;
const HOMES = 64;
const STRIDE = 11;
/** All that the load writes to, from the disk's start. */
export const JOURNAL_BYTES = (HOME + HOMES * BLOCK_SECTORS) * SECTOR_BYTES;

/** The disk is not what it has to be. */
export class JournalBroken extends Error {
  override name = "JournalBroken";
  constructor(sector: number, found: string, expected: string) {
    super(`sector ${sector} holds ${found}, not ${expected}`);
  }
}

/** Answers the last transaction that is committed; throws JournalBroken unless `acknowledged` and all before it are there. */
export function checkJournal(disk: Buffer, acknowledged: number): number {
  const sectors = new Sectors(disk);
  const commits = Array.from({ length: SLOTS }, (_, slot) => sectors.transaction(commitSector(slot)));
  const last = Math.max(...commits);
  if (last < acknowledged)
    throw new JournalBroken(commitSector(acknowledged % SLOTS), `transaction ${last} at most`, `${acknowledged}`);
  for (let slot = 0; slot < SLOTS; slot++) checkSlot(sectors, slot, last);
  for (let home = 0; home < HOMES; home++) checkHome(sectors, home, last);
  return last;
}

function checkSlot(sectors: Sectors, slot: number, last: number): void {
  const holds = latest(last, (transaction) => transaction % SLOTS === slot);
  sectors.expect(commitSector(slot), [holds]);
  // The transaction after the last may be on its way.
  const allowed = (last + 1) % SLOTS === slot ? [holds, last + 1] : [holds];
  for (let i = 0; i < BLOCKS * BLOCK_SECTORS; i++) sectors.expect(slot * SLOT_SECTORS + i, allowed);
}

function checkHome(sectors: Sectors, home: number, last: number): void {
  const isHere = (transaction: number) =>
    Array.from({ length: BLOCKS }, (_, block) => ((transaction * BLOCKS + block) * STRIDE) % HOMES).includes(home);
  const before = latest(last - 1, isHere);
  const allowed = isHere(last) ? [before, last] : [before];
  for (let i = 0; i < BLOCK_SECTORS; i++) sectors.expect(HOME + home * BLOCK_SECTORS + i, allowed);
}

/** The last transaction up to `last` of which `condition` holds; 0 where there is none: nothing is written yet. */
function latest(last: number, condition: (transaction: number) => boolean): number {
  for (let transaction = last; transaction > 0; transaction--) if (condition(transaction)) return transaction;
  return 0;
}

function commitSector(slot: number): number {
  return slot * SLOT_SECTORS + BLOCKS * BLOCK_SECTORS;
}

class Sectors {
  readonly #disk: Buffer;
  constructor(disk: Buffer) {
    this.#disk = disk;
  }

  /** Whose write the sector holds, whole; 0 where nothing was written. */
  transaction(sector: number): number {
    const bytes = this.#disk.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    const transaction = bytes.readBigUInt64LE();
    if (bytes.equals(contentOf(transaction, sector))) return Number(transaction);
    throw new JournalBroken(sector, `a part of a write (${bytes.toString("hex", 0, 32)}...)`, "a whole one");
  }

  expect(sector: number, allowed: readonly number[]): void {
    const found = this.transaction(sector);
    if (!allowed.includes(found)) throw new JournalBroken(sector, `transaction ${found}`, `${allowed.join(" or ")}`);
  }
}

const LIMIT = 2n ** 64n;

/** `fill` of journal.c. */
export function contentOf(transaction: bigint, sector: number): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  if (transaction === 0n) return bytes;
  let value = transaction * 0x9e3779b97f4a7c15n + BigInt(sector) * 0xbf58476d1ce4e5b9n;
  bytes.writeBigUInt64LE(transaction, 0);
  bytes.writeBigUInt64LE(BigInt(sector), 8);
  for (let i = 2; i < WORDS; i++) {
    value = (value + 0x94d049bb133111ebn) % LIMIT;
    bytes.writeBigUInt64LE(value, 8 * i);
  }
  return bytes;
}
