#include "disk-queue.h"

enum { NEXT = 1, DEVICE_WRITES = 2, NO_STATUS = 0xff };

struct disk_queue disk_queue __attribute__((aligned(4096)));

bool disk_queue_begin(unsigned disk, bool event_index) {
  if (!virtio_begin_disk(disk, event_index)) return false;
  for (size_t i = 0; i < sizeof disk_queue; i += 8) AT(uint64_t, (uintptr_t)&disk_queue + i) = 0;
  const uint64_t addresses[] = {(uintptr_t)disk_queue.descriptors, (uintptr_t)&disk_queue.available,
                                (uintptr_t)&disk_queue.used};
  virtio_place_queue(0, DISK_QUEUE_ENTRIES, addresses);
  disk_queue.doorbell = virtio_doorbell(0);
  disk_queue.event_index = event_index;
  return virtio_ready();
}

void disk_queue_end(void) { virtio_end(); }

void disk_queue_prepare(unsigned slot, enum disk_request type, void *buffer, uint32_t length) {
  struct virtio_descriptor *first = &disk_queue.descriptors[slot * DESCRIPTORS_OF_REQUEST];
  uint16_t next = (uint16_t)(slot * DESCRIPTORS_OF_REQUEST + 1);
  disk_queue.headers[slot].type = type;
  first[0] = (struct virtio_descriptor){(uintptr_t)&disk_queue.headers[slot], sizeof disk_queue.headers[slot], NEXT, next};
  if (length) {
    uint16_t direction = type == DISK_READ ? DEVICE_WRITES : 0;
    first[1] = (struct virtio_descriptor){(uintptr_t)buffer, length, NEXT | direction, (uint16_t)(next + 1)};
  } else {
    first[0].next = (uint16_t)(next + 1);
  }
  first[2] = (struct virtio_descriptor){(uintptr_t)&disk_queue.statuses[slot], 1, DEVICE_WRITES, 0};
}

void disk_queue_put(uint16_t index, unsigned slot, uint64_t sector) {
  disk_queue.headers[slot].sector = sector;
  disk_queue.statuses[slot] = NO_STATUS;
  disk_queue.available.entries[index % DISK_QUEUE_ENTRIES] = (uint16_t)(slot * DESCRIPTORS_OF_REQUEST);
}

// Of a device that was shown the entries from `from` to `to`.
static bool wants_bell(uint16_t from, uint16_t to) {
  if (!disk_queue.event_index) return !(__atomic_load_n(&disk_queue.used.flags, __ATOMIC_ACQUIRE) & NO_NOTIFY);
  uint16_t event = __atomic_load_n(&disk_queue.used.event, __ATOMIC_ACQUIRE);
  return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

void disk_queue_publish(uint16_t index) {
  uint16_t before = disk_queue.available.index;
  // Far from what the device comes to: it does not interrupt by EVENT_IDX.
  disk_queue.available.event = (uint16_t)(index + 0x8000);
  __atomic_store_n(&disk_queue.available.index, index, __ATOMIC_SEQ_CST);
  if (wants_bell(before, index)) AT(uint16_t, disk_queue.doorbell) = 0;
}
