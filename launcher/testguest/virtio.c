// A driver for virtio-pci disks, entropy devices and consoles (virtio 1.2): one device, one queue, one request at a time.
#include "guest.h"

enum { VENDOR = 0x1af4, DEVICE_BLOCK = 0x1042, DEVICE_CONSOLE = 0x1043, DEVICE_RNG = 0x1044 };

// PCI configuration space.
enum { COMMAND = 4, COMMAND_MEMORY_MASTER = 6, BAR0 = 0x10, BAR_64_BIT = 4, CAPABILITIES = 0x34 };
enum { CAPABILITY_MSIX = 0x11, MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_ENABLE = 0x8000, MSIX_ENTRY_BYTES = 16 };
enum { CAPABILITY_VENDOR = 9, CAPABILITY_TYPE = 3, CAPABILITY_BAR = 4, CAPABILITY_OFFSET = 8, NOTIFY_MULTIPLIER = 16 };
enum { TYPE_COMMON = 1, TYPE_NOTIFY = 2, TYPE_DEVICE = 4 };

// Where BARs are put that nobody placed.
#define PCI_WINDOW 0xc0000000u
enum { PCI_WINDOW_STEP = 1 << 20 };

// Common configuration.
enum {
  OFFER_SELECT = 0x00,
  OFFER = 0x04,
  FEATURE_SELECT = 0x08,
  FEATURES = 0x0c,
  CONFIG_VECTOR = 0x10,
  STATUS = 0x14,
  QUEUE_SELECT = 0x16,
  QUEUE_ENTRIES = 0x18,
  QUEUE_VECTOR = 0x1a,
  QUEUE_ENABLE = 0x1c,
  QUEUE_ADDRESSES = 0x20,
};
enum { ACKNOWLEDGED = 1, DRIVER = 3, FEATURES_AGREED = 0x0b, READY = 0x0f };
#define EVENT_INDEX (1u << 29)
enum { FEATURES_OF_DISK = 1 << 9 | 1 << 13 | 1 << 14, VERSION_1 = 1, QUEUE_MSIX_ENTRY = 1 };
enum { CONSOLE_RECEIVE = 0, CONSOLE_TRANSMIT = 1 };

enum { NEXT = 1, WRITE = 2, SECTOR_BYTES = 512, ID_BYTES = 20, DATA_BYTES = 4096 };
enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
enum { NO_STATUS = 0xff, NO_DEVICE = 0xfe };
// How many interrupts or looks to wait for an answer.
enum { PATIENCE = 1 << 20 };

static struct virtio_ring ring __attribute__((aligned(4096)));

static struct {
  uint32_t type, reserved;
  uint64_t sector;
} header;
static struct {
  uint64_t sector;
  uint32_t sectors, flags;
} range;
static uint8_t data[DATA_BYTES] __attribute__((aligned(4096)));
static volatile uint8_t status;

static uint64_t common, notify, device_config;
static uint16_t queue;
static uint32_t notify_multiplier;

// Where a BAR is. Machines without firmware leave it to us.
static uint64_t bar_address(uint64_t config, unsigned index) {
  static uint32_t next = PCI_WINDOW;
  uint64_t bar = config + BAR0 + 4 * index;
  uint32_t low = AT(uint32_t, bar);
  bool is_wide = low & BAR_64_BIT;
  uint64_t address = (low & ~0xfu) | (is_wide ? (uint64_t)AT(uint32_t, bar + 4) << 32 : 0);
  if (address) return address;
  AT(uint32_t, bar) = next;
  if (is_wide) AT(uint32_t, bar + 4) = 0;
  next += PCI_WINDOW_STEP;
  return next - PCI_WINDOW_STEP;
}

static void enable_messages(uint64_t capability, uint64_t config) {
  uint32_t table = AT(uint32_t, capability + MSIX_TABLE);
  uint64_t entry = bar_address(config, table & 7) + (table & ~7u) + QUEUE_MSIX_ENTRY * MSIX_ENTRY_BYTES;
  AT(uint32_t, entry) = LAPIC | own_apic_id() << 12;
  AT(uint32_t, entry + 4) = 0;
  AT(uint32_t, entry + 8) = VECTOR_MESSAGE;
  AT(uint32_t, entry + 12) = 0;
  AT(uint16_t, capability + MSIX_CONTROL) = MSIX_ENABLE;
}

static void find_structures(uint64_t config) {
  for (uint8_t at = AT(uint8_t, config + CAPABILITIES); at; at = AT(uint8_t, config + at + 1)) {
    uint64_t capability = config + at;
    if (AT(uint8_t, capability) == CAPABILITY_MSIX) enable_messages(capability, config);
    if (AT(uint8_t, capability) != CAPABILITY_VENDOR) continue;
    if (AT(uint8_t, capability + CAPABILITY_TYPE) > TYPE_DEVICE) continue;
    uint64_t bar = bar_address(config, AT(uint8_t, capability + CAPABILITY_BAR));
    uint64_t structure = bar + AT(uint32_t, capability + CAPABILITY_OFFSET);
    switch (AT(uint8_t, capability + CAPABILITY_TYPE)) {
      case TYPE_COMMON: common = structure; break;
      case TYPE_NOTIFY:
        notify = structure;
        notify_multiplier = AT(uint32_t, capability + NOTIFY_MULTIPLIER);
        break;
      case TYPE_DEVICE: device_config = structure; break;
    }
  }
}

// Of the features `low` those that are offered: a read-only disk has no discard.
static void set_features(uint32_t low) {
  AT(uint32_t, common + OFFER_SELECT) = 0;
  AT(uint32_t, common + FEATURE_SELECT) = 0;
  AT(uint32_t, common + FEATURES) = low & AT(uint32_t, common + OFFER);
  AT(uint32_t, common + FEATURE_SELECT) = 1;
  AT(uint32_t, common + FEATURES) = VERSION_1;
}

// Resets the device and agrees on features.
bool virtio_begin(uint16_t device, unsigned index, uint32_t features) {
  uint64_t config = pci_find(VENDOR, device, index);
  if (!config) return false;
  AT(uint16_t, config + COMMAND) = COMMAND_MEMORY_MASTER;
  find_structures(config);
  AT(uint8_t, common + STATUS) = 0;
  for (unsigned i = 0; i < PATIENCE && AT(uint8_t, common + STATUS); i++) pause();
  AT(uint8_t, common + STATUS) = ACKNOWLEDGED;
  AT(uint8_t, common + STATUS) = DRIVER;
  set_features(features);
  AT(uint8_t, common + STATUS) = FEATURES_AGREED;
  return AT(uint8_t, common + STATUS) == FEATURES_AGREED;
}

void virtio_set_up_queue(uint16_t which, struct virtio_ring *its) {
  for (size_t i = 0; i < sizeof *its; i++) ((volatile uint8_t *)its)[i] = 0;
  const uint64_t addresses[] = {(uintptr_t)its->descriptors, (uintptr_t)&its->available, (uintptr_t)&its->used};
  virtio_place_queue(which, QUEUE_SIZE, addresses);
}

void virtio_place_queue(uint16_t which, uint16_t entries, const uint64_t addresses[3]) {
  AT(uint16_t, common + QUEUE_SELECT) = which;
  AT(uint16_t, common + QUEUE_ENTRIES) = entries;
  AT(uint16_t, common + QUEUE_VECTOR) = QUEUE_MSIX_ENTRY;
  for (unsigned i = 0; i < 3; i++) {
    AT(uint32_t, common + QUEUE_ADDRESSES + 8 * i) = (uint32_t)addresses[i];
    AT(uint32_t, common + QUEUE_ADDRESSES + 8 * i + 4) = (uint32_t)(addresses[i] >> 32);
  }
  AT(uint16_t, common + QUEUE_ENABLE) = 1;
}

bool virtio_ready(void) {
  AT(uint8_t, common + STATUS) = READY;
  return AT(uint8_t, common + STATUS) == READY;
}

uint32_t virtio_features(void) {
  AT(uint32_t, common + FEATURE_SELECT) = 0;
  return AT(uint32_t, common + FEATURES);
}

void virtio_end(void) { AT(uint8_t, common + STATUS) = 0; }

// Changes of the device's configuration interrupt as its queues do.
void virtio_hear_of_changes(void) { AT(uint16_t, common + CONFIG_VECTOR) = QUEUE_MSIX_ENTRY; }

uint64_t virtio_doorbell(uint16_t which) { return notify + which * notify_multiplier; }

uint64_t virtio_config64(unsigned offset) { return AT(uint64_t, device_config + offset); }

uint8_t virtio_config8(unsigned offset) { return AT(uint8_t, device_config + offset); }

void virtio_publish(uint16_t which, struct virtio_ring *its, uint16_t head) {
  its->available.entries[its->available.index % QUEUE_SIZE] = head;
  __atomic_store_n(&its->available.index, its->available.index + 1, __ATOMIC_SEQ_CST);
  AT(uint16_t, virtio_doorbell(which)) = which;
}

bool virtio_begin_disk(unsigned disk, bool event_index) {
  return virtio_begin(DEVICE_BLOCK, disk, (uint32_t)FEATURES_OF_DISK | (event_index ? EVENT_INDEX : 0));
}

// Brings the device up with one queue.
static bool start_device_queue(uint16_t device, unsigned index, uint32_t features, uint16_t which) {
  if (!virtio_begin(device, index, features)) return false;
  queue = which;
  virtio_set_up_queue(queue, &ring);
  return virtio_ready();
}

static bool start_device(uint16_t device, unsigned index, uint32_t features) {
  return start_device_queue(device, index, features, 0);
}

static void set_descriptor(unsigned index, volatile void *address, uint32_t length, uint16_t flags) {
  ring.descriptors[index] = (struct virtio_descriptor){(uintptr_t)address, length, flags, (uint16_t)(index + 1)};
}

static void publish(uint16_t head) { virtio_publish(queue, &ring, head); }

static bool is_answered(void) {
  return __atomic_load_n(&ring.used.index, __ATOMIC_ACQUIRE) == ring.available.index;
}

static bool wait_for_answer(void) {
  for (unsigned i = 0; i < PATIENCE && !is_answered(); i++) wait_for_interrupt_unless(is_answered);
  return is_answered();
}

// One request to disk `disk`; answers its status. The disk stays up between requests.
static uint8_t request(unsigned disk, uint32_t type, uint64_t sector, void *buffer, uint32_t length, uint16_t flags) {
  static unsigned started = ~0u;
  if (started != disk || AT(uint8_t, common + STATUS) != READY) {
    if (!start_device(DEVICE_BLOCK, disk, FEATURES_OF_DISK)) return NO_DEVICE;
    started = disk;
  }
  header.type = type;
  header.sector = sector;
  status = NO_STATUS;
  unsigned last = length ? 2 : 1;
  set_descriptor(0, &header, sizeof header, NEXT);
  if (length) set_descriptor(1, buffer, length, NEXT | flags);
  set_descriptor(last, &status, 1, WRITE);
  publish(0);
  return wait_for_answer() ? status : NO_STATUS;
}

static uint64_t first_number(void) { return AT(uint64_t, data); }

void disk_read(unsigned disk, uint64_t sector) {
  uint8_t result = request(disk, BLK_IN, sector, data, SECTOR_BYTES, WRITE);
  print("blkread status %u data 0x%x\n", (uint64_t)result, result ? 0 : first_number());
}

void disk_write(unsigned disk, uint64_t sector, uint64_t value) {
  for (unsigned i = 0; i < SECTOR_BYTES; i += sizeof value) AT(uint64_t, data + i) = value;
  print("blkwrite status %u\n", (uint64_t)request(disk, BLK_OUT, sector, data, SECTOR_BYTES, 0));
}

void disk_flush(unsigned disk) { print("blkflush status %u\n", (uint64_t)request(disk, BLK_FLUSH, 0, 0, 0, 0)); }

void disk_id(unsigned disk) {
  uint8_t result = request(disk, BLK_GET_ID, 0, data, ID_BYTES, WRITE);
  data[ID_BYTES] = 0;
  print("blkid status %u name %s sectors %u\n", (uint64_t)result, data, AT(uint64_t, device_config));
}

void disk_zero(unsigned disk, uint64_t sector, uint32_t sectors, bool discard) {
  range.sector = sector;
  range.sectors = sectors;
  uint8_t result = request(disk, discard ? BLK_DISCARD : BLK_ZEROES, 0, &range, sizeof range, 0);
  print("%s status %u\n", discard ? "blkdiscard" : "blkzero", (uint64_t)result);
}

// `count` reads of 4 KiB, one after the other.
void disk_speed(unsigned disk, uint64_t count) {
  uint64_t start = time_stamp(), failed = 0;
  for (uint64_t i = 0; i < count; i++) failed += request(disk, BLK_IN, 8 * (i % 16), data, DATA_BYTES, WRITE) != 0;
  print("blkspeed failed %u ticks %u\n", failed, (time_stamp() - start) / (count ? count : 1));
}

// Garbage in rings, descriptors and registers, `rounds` times, each on a device that was reset before.
void disk_garbage(unsigned disk, uint64_t rounds, uint64_t (*random)(void)) {
  uint64_t up = 0;
  for (uint64_t round = 0; round < rounds; round++) {
    if (!start_device(DEVICE_BLOCK, disk, (uint32_t)FEATURES_OF_DISK | (random() & 1 ? 1u << 28 | 1u << 29 : 0))) break;
    up++;
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
      uint64_t r = random();
      // Near the device's own buffers more often than not, so that the walk goes deep.
      uint64_t address = r & 1 ? (uintptr_t)data + (r >> 8) % DATA_BYTES : random();
      uint32_t length = r & 2 ? (uint32_t)(random() % 1024) : (uint32_t)random();
      ring.descriptors[i] = (struct virtio_descriptor){address, length, (uint16_t)((r >> 32) & 7), (uint16_t)((r >> 40) % 9)};
    }
    header.type = (uint32_t)random() % 16;
    header.sector = random();
    set_descriptor(0, &header, sizeof header, NEXT);
    for (unsigned i = 0; i < 4; i++) {
      uint64_t r = random();
      if (r & 1) AT(uint32_t, common + (r >> 8) % 0x38) = (uint32_t)(r >> 32);
      if (r & 2) ring.available.index += (uint16_t)(r >> 48) % 12;
      publish((uint16_t)((r >> 16) % 9));
    }
  }
  // Also ends what of the last round is under way.
  bool works = start_device(DEVICE_BLOCK, disk, FEATURES_OF_DISK);
  print("blkgarbage rounds %u, the disk %s\n", up, works ? "works" : "does not work");
}

void random_bytes(uint32_t length) {
  for (unsigned i = 0; i < DATA_BYTES; i++) data[i] = 0;
  if (length > DATA_BYTES) length = DATA_BYTES;
  if (!start_device(DEVICE_RNG, 0, 0)) {
    print("rng none\n");
    return;
  }
  set_descriptor(0, data, length, WRITE);
  publish(0);
  bool answered = wait_for_answer();
  print("rng answered %u bytes %u data 0x%x\n", (uint64_t)answered, (uint64_t)ring.used.entries[0].length,
        first_number());
  // Another device uses the rings next.
  AT(uint8_t, common + STATUS) = 0;
}

static void console_none(void) { print("hvc none\n"); }

// Sends `length` bytes of `text` `count` times, for ever where it is 0.
void virtio_console_print(const char *text, uint32_t length, uint64_t count) {
  if (!start_device_queue(DEVICE_CONSOLE, 0, 0, CONSOLE_TRANSMIT)) return console_none();
  set_descriptor(0, (void *)(uintptr_t)text, length, 0);
  uint64_t sent = 0;
  while (count == 0 || sent < count) {
    publish(0);
    if (!wait_for_answer()) break;
    sent++;
  }
  print("hvc printed %u\n", sent);
  AT(uint8_t, common + STATUS) = 0;
}

// Waits for input, and tells the serial port of it.
void virtio_console_read(void) {
  if (!start_device_queue(DEVICE_CONSOLE, 0, 0, CONSOLE_RECEIVE)) return console_none();
  set_descriptor(0, data, DATA_BYTES - 1, WRITE);
  publish(0);
  print("hvc waits\n");
  data[wait_for_answer() ? ring.used.entries[0].length : 0] = 0;
  print("hvc read %s\n", data);
  AT(uint8_t, common + STATUS) = 0;
}
