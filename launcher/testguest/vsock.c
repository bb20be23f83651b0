// One stream at a time of the vsock: what comes is given back, from the buffer that it came in.
#include "guest.h"

enum { DEVICE_VSOCK = 0x1053, RECEIVE = 0, TRANSMIT = 1, EVENT = 2, WRITE = 2 };
enum { HOST_CID = 2, STREAM = 1, GUEST_PORT = 1024, WINDOW = 65536, HEADER = 44, BUFFER_BYTES = 4096 };
enum { REQUEST = 1, RESPONSE = 2, RESET = 3, SHUTDOWN = 4, DATA = 5, CREDIT_UPDATE = 6, CREDIT_REQUEST = 7, BOTH_WAYS = 3 };

struct packet {
  uint64_t source, target;
  uint32_t source_port, target_port, length;
  uint16_t type, operation;
  uint32_t flags, buffer, forwarded;
  uint8_t data[BUFFER_BYTES - HEADER];
} __attribute__((packed));

static struct virtio_ring receive __attribute__((aligned(4096))), transmit __attribute__((aligned(4096))),
    event __attribute__((aligned(4096)));
static struct packet received[QUEUE_SIZE] __attribute__((aligned(4096)));
static struct packet control __attribute__((aligned(4096)));
static uint32_t events[2];
static uint16_t seen, seen_events;

static enum { CLOSED, DIALING, OPEN, ENDING } state;
static uint32_t host_port, guest_port, sent, taken, host_window, host_forwarded;
static uint64_t echoed;
// Buffers whose bytes are not given back yet, in order.
static uint16_t held[QUEUE_SIZE];
static unsigned first_held, held_count;

static bool vsock_start(void) {
  if (!virtio_begin(DEVICE_VSOCK, 0, 0)) {
    print("vsock none\n");
    return false;
  }
  virtio_set_up_queue(RECEIVE, &receive);
  virtio_set_up_queue(TRANSMIT, &transmit);
  virtio_set_up_queue(EVENT, &event);
  seen = seen_events = 0;
  state = CLOSED;
  if (!virtio_ready()) return false;
  for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
    receive.descriptors[i] = (struct virtio_descriptor){(uintptr_t)&received[i], BUFFER_BYTES, WRITE, 0};
    virtio_publish(RECEIVE, &receive, i);
  }
  for (uint16_t i = 0; i < 2; i++) {
    event.descriptors[i] = (struct virtio_descriptor){(uintptr_t)&events[i], sizeof events[i], WRITE, 0};
    virtio_publish(EVENT, &event, i);
  }
  return true;
}

static bool has_news(void) {
  return __atomic_load_n(&receive.used.index, __ATOMIC_ACQUIRE) != seen ||
         __atomic_load_n(&event.used.index, __ATOMIC_ACQUIRE) != seen_events;
}
static bool is_sent(void) { return __atomic_load_n(&transmit.used.index, __ATOMIC_ACQUIRE) == transmit.available.index; }

static void send(struct packet *packet, uint16_t operation, uint32_t length, uint32_t flags) {
  packet->source = virtio_config64(0);
  packet->target = HOST_CID;
  packet->source_port = guest_port;
  packet->target_port = host_port;
  packet->length = length;
  packet->type = STREAM;
  packet->operation = operation;
  packet->flags = flags;
  packet->buffer = WINDOW;
  packet->forwarded = taken;
  transmit.descriptors[0] = (struct virtio_descriptor){(uintptr_t)packet, HEADER + length, 0, 0};
  virtio_publish(TRANSMIT, &transmit, 0);
  while (!is_sent()) wait_for_interrupt_unless(is_sent);
}

static void tell(uint16_t operation, uint32_t flags) { send(&control, operation, 0, flags); }

static void begin(void) {
  sent = taken = 0;
  echoed = 0;
  held_count = 0;
}

// Gives back what the host has room for.
static void echo(void) {
  while (held_count) {
    uint16_t head = held[first_held];
    struct packet *packet = &received[head];
    uint32_t length = packet->length;
    if (sent - host_forwarded + length > host_window) return;
    first_held = (first_held + 1) % QUEUE_SIZE;
    held_count--;
    sent += length;
    taken += length;
    echoed += length;
    send(packet, DATA, length, 0);
    virtio_publish(RECEIVE, &receive, head);
  }
}

static void hold(uint16_t head) { held[(first_held + held_count++) % QUEUE_SIZE] = head; }

static void end(const char *how) {
  // Whatever came with it goes back to the ring.
  for (; held_count; held_count--, first_held = (first_held + 1) % QUEUE_SIZE) virtio_publish(RECEIVE, &receive, held[first_held]);
  print("vsock %s after %u bytes\n", how, echoed);
  state = CLOSED;
}

// True where the buffer is free again.
static bool take(uint16_t head, uint32_t port) {
  struct packet *packet = &received[head];
  host_window = packet->buffer;
  host_forwarded = packet->forwarded;
  if (packet->operation == REQUEST && state == CLOSED && packet->target_port == port) {
    host_port = packet->source_port;
    guest_port = port;
    begin();
    state = OPEN;
    tell(RESPONSE, 0);
  } else if (packet->operation == RESPONSE && state == DIALING) {
    state = OPEN;
    print("vsock open\n");
  } else if (packet->operation == RESET) {
    end(state == ENDING ? "closed" : state == DIALING ? "refused" : "reset");
  } else if (packet->operation == DATA) {
    hold(head);
    return false;
  } else if (packet->operation == SHUTDOWN && state == OPEN) state = ENDING;
  else if (packet->operation == CREDIT_REQUEST) tell(CREDIT_UPDATE, 0);
  return true;
}

static void take_events(void) {
  for (; seen_events != __atomic_load_n(&event.used.index, __ATOMIC_ACQUIRE); seen_events++) {
    uint32_t head = event.used.entries[seen_events % QUEUE_SIZE].head;
    if (state != CLOSED) end("lost its transport");
    virtio_publish(EVENT, &event, (uint16_t)head);
  }
}

// Until a stream that was open is closed.
static void run(uint32_t port) {
  bool told_end = false;
  for (bool was_open = state != CLOSED; !was_open || state != CLOSED;) {
    while (!has_news()) wait_for_interrupt_unless(has_news);
    take_events();
    if (state == CLOSED) was_open = false, told_end = false;
    for (; seen != __atomic_load_n(&receive.used.index, __ATOMIC_ACQUIRE); seen++) {
      uint16_t head = (uint16_t)receive.used.entries[seen % QUEUE_SIZE].head;
      if (state != CLOSED) was_open = true;
      if (take(head, port)) virtio_publish(RECEIVE, &receive, head);
    }
    echo();
    if (state == ENDING && !held_count && !told_end) {
      told_end = true;
      tell(SHUTDOWN, BOTH_WAYS);
    }
  }
  virtio_end();
}

void vsock_serve(uint32_t port) {
  if (!vsock_start()) return;
  print("vsock serves\n");
  run(port);
}

void vsock_dial(uint32_t port) {
  if (!vsock_start()) return;
  host_port = port;
  guest_port = GUEST_PORT;
  begin();
  state = DIALING;
  tell(REQUEST, 0);
  run(0);
}
