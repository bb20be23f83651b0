// A disk's queue with room for many requests at the same time, for the loads of journal.c and benchmark.c.
#pragma once
#include "guest.h"

enum { SECTOR_BYTES = 512, NO_NOTIFY = 1, NO_INTERRUPT = 1 };
enum disk_request { DISK_READ = 0, DISK_WRITE = 1, DISK_FLUSH = 4 };
// Of each request: header, data, status. As many as the launcher and QEMU take.
enum { DISK_QUEUE_ENTRIES = 128, DESCRIPTORS_OF_REQUEST = 3, DISK_SLOTS = DISK_QUEUE_ENTRIES / DESCRIPTORS_OF_REQUEST };

struct disk_queue {
  struct virtio_descriptor descriptors[DISK_QUEUE_ENTRIES];
  struct {
    uint16_t flags, index, entries[DISK_QUEUE_ENTRIES], event;
  } available;
  struct {
    uint16_t flags, index;
    struct {
      uint32_t head, length;
    } entries[DISK_QUEUE_ENTRIES];
    uint16_t event;
  } used __attribute__((aligned(8)));
  struct {
    uint32_t type, reserved;
    uint64_t sector;
  } headers[DISK_SLOTS];
  volatile uint8_t statuses[DISK_SLOTS];
  uint64_t doorbell;
  bool event_index;
};
extern struct disk_queue disk_queue;

// Resets the disk and brings it up with this queue, to ring by EVENT_IDX or by flags; `disk_queue_end` leaves it to the
// driver of virtio.c.
bool disk_queue_begin(unsigned disk, bool event_index);
void disk_queue_end(void);
// What request `slot` does from the next time it is made available on.
void disk_queue_prepare(unsigned slot, enum disk_request type, void *buffer, uint32_t length);
// Puts request `slot` into the available ring at `index`, to be published.
void disk_queue_put(uint16_t index, unsigned slot, uint64_t sector);
// Makes all before `index` available.
void disk_queue_publish(uint16_t index);
