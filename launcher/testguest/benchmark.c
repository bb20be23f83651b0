// The load of hack/bench/disks.ts: requests of one kind, always as many under way. It runs unprivileged, which is fast
// even where a guest's kernel is emulated, and looks for answers instead of taking interrupts.
#include "disk-queue.h"

// Above the guest itself.
#define BUFFERS 0x1000000ul

static struct {
  uint64_t depth, blocks, block_sectors, count, done, failed, next;
  bool random;
} load;

static uint64_t next_sector(void) {
  if (!load.random) return load.next++ % load.blocks * load.block_sectors;
  // A linear congruential generator: random enough for a disk.
  load.next = load.next * 6364136223846793005ul + 1442695040888963407ul;
  return (load.next >> 33) % load.blocks * load.block_sectors;
}

// Runs unprivileged: nothing here prints or touches the processor's state.
static void run_load(void) {
  uint16_t available = disk_queue.available.index, used = available;
  for (unsigned slot = 0; slot < load.depth; slot++) disk_queue_put(available++, slot, next_sector());
  uint64_t submitted = load.depth;
  disk_queue_publish(available);
  while (load.done < load.count) {
    uint16_t answered = __atomic_load_n(&disk_queue.used.index, __ATOMIC_ACQUIRE);
    if (answered == used) {
      pause();
      continue;
    }
    bool more = false;
    for (; used != answered; used++) {
      unsigned slot = disk_queue.used.entries[used % DISK_QUEUE_ENTRIES].head / DESCRIPTORS_OF_REQUEST;
      if (disk_queue.statuses[slot] != 0) load.failed++;
      load.done++;
      if (submitted == load.count) continue;
      disk_queue_put(available++, slot, next_sector());
      submitted++;
      more = true;
    }
    if (more) disk_queue_publish(available);
  }
}

void disk_benchmark(unsigned disk, const struct disk_load *wanted) {
  uint32_t bytes = wanted->block_bytes;
  bool makes_sense = wanted->depth >= 1 && wanted->depth <= DISK_SLOTS && wanted->count >= wanted->depth;
  if (!makes_sense || !disk_queue_begin(disk, wanted->event_index)) {
    print("blkbench refused\n");
    return;
  }
  load.depth = wanted->depth;
  load.block_sectors = bytes / SECTOR_BYTES;
  load.blocks = virtio_config64(0) / load.block_sectors;
  load.random = wanted->random;
  load.count = wanted->count;
  load.done = load.failed = 0;
  for (unsigned slot = 0; slot < load.depth; slot++)
    disk_queue_prepare(slot, wanted->write ? DISK_WRITE : DISK_READ, (void *)(BUFFERS + (uint64_t)slot * bytes), bytes);
  disk_queue.available.flags = NO_INTERRUPT;
  uint64_t start = time_stamp();
  run_unprivileged(run_load);
  uint64_t ticks = time_stamp() - start;
  print("blkbench done %u failed %u ticks %u\n", load.done, load.failed, ticks);
  disk_queue_end();
}
