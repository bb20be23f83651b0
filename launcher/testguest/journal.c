// The load of the power-cut tests: transactions through a journal, each acknowledged on the console once it is durable.
// What a disk has to look like at any moment is told by hack/power-cut/journal.ts.
#include "disk-queue.h"

enum { WORDS = SECTOR_BYTES / 8 };
// How many interrupts or looks to wait for answers.
enum { PATIENCE = 1 << 20 };
// A slot of the journal holds the blocks of one transaction and its commit; the blocks' homes follow the journal.
enum { BLOCK_SECTORS = 4, BLOCKS = 6, SLOT_SECTORS = BLOCKS * BLOCK_SECTORS + BLOCK_SECTORS, SLOTS = 4 };
enum { HOME = SLOTS * SLOT_SECTORS, HOMES = 64, STRIDE = 11 };

static uint64_t blocks[BLOCKS][BLOCK_SECTORS][WORDS] __attribute__((aligned(4096)));
static uint64_t commit[1][WORDS] __attribute__((aligned(4096)));

// Each word follows from the transaction and the sector, so that one that is not whole shows.
static void fill(uint64_t *words, uint64_t transaction, uint64_t sector) {
  uint64_t value = transaction * 0x9e3779b97f4a7c15ul + sector * 0xbf58476d1ce4e5b9ul;
  words[0] = transaction;
  words[1] = sector;
  for (unsigned i = 2; i < WORDS; i++) words[i] = value += 0x94d049bb133111ebul;
}

static uint64_t home_of(uint64_t transaction, unsigned block) {
  return HOME + (transaction * BLOCKS + block) * STRIDE % HOMES * BLOCK_SECTORS;
}

// Requests in slots of the queue, fixed for all time.
enum { COMMIT_SLOT = BLOCKS, FLUSH_SLOT };

static void prepare(void) {
  for (unsigned block = 0; block < BLOCKS; block++)
    disk_queue_prepare(block, DISK_WRITE, blocks[block], sizeof blocks[block]);
  disk_queue_prepare(COMMIT_SLOT, DISK_WRITE, commit, sizeof commit);
  disk_queue_prepare(FLUSH_SLOT, DISK_FLUSH, 0, 0);
}

static bool all_answered(void) {
  return __atomic_load_n(&disk_queue.used.index, __ATOMIC_ACQUIRE) == disk_queue.available.index;
}

// All given to the disk before the first is waited for; true when all succeeded.
static bool run_requests(unsigned first_slot, unsigned count, const uint64_t *sectors) {
  uint16_t index = disk_queue.available.index;
  for (unsigned i = 0; i < count; i++) disk_queue_put(index++, first_slot + i, sectors[i]);
  disk_queue_publish(index);
  for (unsigned i = 0; i < PATIENCE && !all_answered(); i++) wait_for_interrupt_unless(all_answered);
  bool succeeded = all_answered();
  for (unsigned i = 0; i < count; i++) succeeded = succeeded && disk_queue.statuses[first_slot + i] == 0;
  return succeeded;
}

static bool flush(void) {
  const uint64_t none = 0;
  return run_requests(FLUSH_SLOT, 1, &none);
}

// Each to one of `sectors`; what they hold names the sector that it is in.
static bool write_blocks(uint64_t transaction, const uint64_t *sectors) {
  for (unsigned block = 0; block < BLOCKS; block++)
    for (unsigned i = 0; i < BLOCK_SECTORS; i++) fill(blocks[block][i], transaction, sectors[block] + i);
  return run_requests(0, BLOCKS, sectors);
}

static bool run_transaction(uint64_t transaction) {
  uint64_t slot = transaction % SLOTS * SLOT_SECTORS, journal[BLOCKS], homes[BLOCKS];
  for (unsigned block = 0; block < BLOCKS; block++) {
    journal[block] = slot + block * BLOCK_SECTORS;
    homes[block] = home_of(transaction, block);
  }
  uint64_t commit_sector = slot + BLOCKS * BLOCK_SECTORS;
  if (!write_blocks(transaction, journal) || !flush()) return false;
  fill(commit[0], transaction, commit_sector);
  if (!run_requests(COMMIT_SLOT, 1, &commit_sector) || !flush()) return false;
  print("durable %u\n", transaction);
  // In place only now, and made durable by the next transaction's flush.
  return write_blocks(transaction, homes);
}

void disk_journal(unsigned disk, uint64_t first, uint64_t count) {
  bool succeeded = disk_queue_begin(disk, false);
  prepare();
  for (uint64_t i = 0; succeeded && (count == 0 || i < count); i++) succeeded = run_transaction(first + i);
  print("blkjournal %s\n", succeeded ? "done" : "failed");
  disk_queue_end();
}
