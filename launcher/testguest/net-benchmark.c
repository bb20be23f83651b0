// The load of hack/bench/network.ts: equal frames that go out, always as many under way, and what comes back for each. It
// runs unprivileged, which is fast even where a guest's kernel is emulated, and looks for what was done instead of taking
// interrupts.
#include "guest.h"

enum { DEVICE_NET = 0x1041, RECEIVE = 0, TRANSMIT = 1, NEXT = 1, DEVICE_WRITES = 2, NO_NOTIFY = 1, NO_INTERRUPT = 1 };
// Checksum and TCP segmentation both ways, mergeable buffers, rings by EVENT_IDX: what Linux takes.
enum { FEATURES = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 7 | 1 << 11 | 1 << 15 | 1 << 29, EVENT_INDEX = 1 << 29 };
enum { ENTRIES = 256, PART_BYTES = 4096, HEADER = 12, HEADER_BUFFERS = 10, MAC_BYTES = 6, ETHERNET = 14 };
enum { NEEDS_CHECKSUM = 1, SEGMENTS_OF_TCP4 = 1, TCP = 34, TCP_HEADERS = 54, TCP_CHECKSUM = 16, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

// Above the guest itself.
#define SENT 0x1000000ul
#define RECEIVED (SENT + (uint64_t)ENTRIES * PART_BYTES)
// A frame was lost when nothing has come for so long: some seconds.
#define PATIENCE_TICKS (1ul << 34)

struct net_queue {
  struct virtio_descriptor descriptors[ENTRIES];
  struct {
    uint16_t flags, index, entries[ENTRIES], event;
  } available;
  struct {
    uint16_t flags, index;
    struct {
      uint32_t head, length;
    } entries[ENTRIES];
    uint16_t event;
  } used __attribute__((aligned(8)));
  // Of the driver alone: what it has put into the ring, and what it has seen come back.
  uint16_t put, seen, number;
  uint64_t doorbell;
};
static struct net_queue receive __attribute__((aligned(4096))), transmit __attribute__((aligned(4096)));

static struct {
  uint64_t depth, count, returns, parts, submitted, sent, received, bytes, last_news;
  bool event_index;
} load;

static void queue_begin(struct net_queue *queue, uint16_t number) {
  for (size_t i = 0; i < sizeof *queue; i += 8) AT(uint64_t, (uintptr_t)queue + i) = 0;
  const uint64_t addresses[] = {(uintptr_t)queue->descriptors, (uintptr_t)&queue->available, (uintptr_t)&queue->used};
  virtio_place_queue(number, ENTRIES, addresses);
  queue->number = number;
  queue->doorbell = virtio_doorbell(number);
  queue->available.flags = NO_INTERRUPT;
}

static void queue_put(struct net_queue *queue, uint16_t head) { queue->available.entries[queue->put++ % ENTRIES] = head; }

static bool wants_bell(const struct net_queue *queue, uint16_t from, uint16_t to) {
  if (!load.event_index) return !(__atomic_load_n(&queue->used.flags, __ATOMIC_ACQUIRE) & NO_NOTIFY);
  uint16_t event = __atomic_load_n(&queue->used.event, __ATOMIC_ACQUIRE);
  return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

static void queue_publish(struct net_queue *queue) {
  uint16_t before = queue->available.index;
  if (queue->put == before) return;
  // Far from what the device comes to: it does not interrupt by EVENT_IDX.
  queue->available.event = (uint16_t)(queue->put + 0x8000);
  __atomic_store_n(&queue->available.index, queue->put, __ATOMIC_SEQ_CST);
  if (wants_bell(queue, before, queue->put)) AT(uint16_t, queue->doorbell) = queue->number;
}

static bool has_news(const struct net_queue *queue) {
  return __atomic_load_n(&queue->used.index, __ATOMIC_ACQUIRE) != queue->seen;
}

static void take_sent(void) {
  for (; has_news(&transmit); transmit.seen++) load.sent++;
}

// A frame may lie in several buffers, whose number stands in the first; they come together.
static void take_received(void) {
  while (has_news(&receive)) {
    uint32_t head = receive.used.entries[receive.seen % ENTRIES].head % ENTRIES;
    unsigned buffers = AT(uint16_t, RECEIVED + (uint64_t)head * PART_BYTES + HEADER_BUFFERS);
    unsigned taken = 0;
    do {
      load.bytes += receive.used.entries[receive.seen % ENTRIES].length;
      queue_put(&receive, (uint16_t)receive.used.entries[receive.seen++ % ENTRIES].head);
    } while (++taken < buffers && has_news(&receive));
    load.received++;
  }
}

// Frames that are not under way any more: sent, and all that comes back for them received.
static uint64_t completed(void) {
  uint64_t answered = load.returns ? load.received / load.returns : load.sent;
  return answered < load.sent ? answered : load.sent;
}

// Runs unprivileged: nothing here prints or touches the processor's state.
static void run_load(void) {
  load.last_news = time_stamp();
  for (uint64_t done = 0; done < load.count;) {
    while (load.submitted < load.count && load.submitted - done < load.depth)
      queue_put(&transmit, (uint16_t)(load.submitted++ % load.depth * load.parts));
    queue_publish(&transmit);
    queue_publish(&receive);
    while (!has_news(&transmit) && !has_news(&receive)) {
      if (time_stamp() - load.last_news > PATIENCE_TICKS) return;
      pause();
    }
    load.last_news = time_stamp();
    take_sent();
    take_received();
    done = completed();
  }
}

static void put16(uint64_t at, uint64_t value) { AT(uint8_t, at) = (uint8_t)(value >> 8), AT(uint8_t, at + 1) = (uint8_t)value; }

// To a host that there is not, from 10.0.2.2 to 10.0.2.1: a datagram, or TCP to be cut into segments. What is in it matters
// to nobody.
static void write_frame(uint64_t at, const struct net_load *wanted) {
  static const uint8_t ip_start[] = {0x45, 0}, addresses[] = {10, 0, 2, 2, 10, 0, 2, 1}, target[] = {2, 0, 0, 0, 0, 9};
  for (uint64_t i = 0; i < HEADER + TCP_HEADERS; i++) AT(uint8_t, at + i) = 0;
  uint64_t frame = at + HEADER, ip = frame + ETHERNET;
  if (wanted->segment) {
    AT(uint8_t, at) = NEEDS_CHECKSUM, AT(uint8_t, at + 1) = SEGMENTS_OF_TCP4;
    AT(uint16_t, at + 2) = TCP_HEADERS, AT(uint16_t, at + 4) = (uint16_t)wanted->segment;
    AT(uint16_t, at + 6) = TCP, AT(uint16_t, at + 8) = TCP_CHECKSUM;
    AT(uint8_t, frame + TCP + 12) = 5 << 4;
  } else {
    put16(frame + TCP, 9), put16(frame + TCP + 2, 9), put16(frame + TCP + 4, wanted->length - TCP);
  }
  for (unsigned i = 0; i < MAC_BYTES; i++) AT(uint8_t, frame + i) = target[i];
  for (unsigned i = 0; i < MAC_BYTES; i++) AT(uint8_t, frame + MAC_BYTES + i) = virtio_config8(i);
  put16(frame + 12, 0x0800);
  for (unsigned i = 0; i < sizeof ip_start; i++) AT(uint8_t, ip + i) = ip_start[i];
  put16(ip + 2, wanted->length - ETHERNET);
  AT(uint8_t, ip + 8) = 64, AT(uint8_t, ip + 9) = wanted->segment ? PROTOCOL_TCP : PROTOCOL_UDP;
  for (unsigned i = 0; i < sizeof addresses; i++) AT(uint8_t, ip + 12 + i) = addresses[i];
  uint32_t sum = 0;
  for (unsigned i = 0; i < 20; i += 2) sum += (uint32_t)AT(uint8_t, ip + i) << 8 | AT(uint8_t, ip + i + 1);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  put16(ip + 10, ~sum);
}

static void prepare(const struct net_load *wanted) {
  for (uint64_t slot = 0; slot < load.depth; slot++) {
    uint64_t at = SENT + slot * load.parts * PART_BYTES;
    write_frame(at, wanted);
    uint64_t left = HEADER + wanted->length;
    for (uint64_t i = slot * load.parts; left > 0; i++, at += PART_BYTES) {
      uint32_t bytes = left < PART_BYTES ? (uint32_t)left : PART_BYTES;
      left -= bytes;
      transmit.descriptors[i] = (struct virtio_descriptor){at, bytes, left > 0 ? NEXT : 0, (uint16_t)(i + 1)};
    }
  }
  for (uint16_t i = 0; i < ENTRIES; i++) {
    receive.descriptors[i] = (struct virtio_descriptor){RECEIVED + (uint64_t)i * PART_BYTES, PART_BYTES, DEVICE_WRITES, 0};
    queue_put(&receive, i);
  }
  queue_publish(&receive);
}

void net_benchmark(const struct net_load *wanted) {
  load.parts = (HEADER + wanted->length + PART_BYTES - 1) / PART_BYTES;
  bool makes_sense = wanted->depth >= 1 && wanted->length >= TCP_HEADERS && wanted->depth * load.parts <= ENTRIES;
  if (!makes_sense || !virtio_begin(DEVICE_NET, 0, FEATURES)) {
    print("netbench refused\n");
    return;
  }
  load.event_index = virtio_features() & EVENT_INDEX;
  load.depth = wanted->depth;
  load.count = wanted->count;
  load.returns = wanted->returns;
  load.submitted = load.sent = load.received = load.bytes = 0;
  queue_begin(&receive, RECEIVE);
  queue_begin(&transmit, TRANSMIT);
  if (!virtio_ready()) return;
  prepare(wanted);
  uint64_t start = time_stamp();
  run_unprivileged(run_load);
  uint64_t ticks = time_stamp() - start;
  print("netbench sent %u received %u bytes %u ticks %u\n", load.sent, load.received, load.bytes, ticks);
  virtio_end();
}
