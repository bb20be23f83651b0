// A small host on the first network interface: ARP, ping, datagrams of both families that come back, and frames as a test
// wants them. One frame is sent at a time.
#include "guest.h"

enum { DEVICE_NET = 0x1041, RECEIVE = 0, TRANSMIT = 1, CONTROL = 2, NEXT = 1, WRITE = 2 };
// Checksum and TCP segmentation both ways, MAC, mergeable buffers.
enum { FEATURES = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 7 | 1 << 11 | 1 << 15 };
// Status of the link, commands, and to be asked for announcements.
enum { FEATURES_TO_ANNOUNCE = 1 << 16 | 1 << 17 | 1 << 21, STATUS = 6, ANNOUNCE = 2 };
enum { CONTROL_ANNOUNCE = 3, ANNOUNCE_ACKNOWLEDGED = 0 };
enum { NEEDS_CHECKSUM = 1, HEADER = 12, BUFFERS = 10, ETHERNET = 14, BUFFER_BYTES = 2048, MAC_BYTES = 6, MAX_SENT = 1024 };
enum { ETHERTYPE = 12, TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_IPV6 = 0x86dd };
// Offsets in a frame.
enum { ARP_OPERATION = 20, ARP_SENDER_MAC = 22, ARP_SENDER_IP = 28, ARP_TARGET_MAC = 32, ARP_TARGET_IP = 38, ARP_END = 42 };
enum { IP_PROTOCOL = 23, IP_SOURCE = 26, IP_TARGET = 30, ICMP = 34, ICMP_CHECKSUM = 36, PROTOCOL_ICMP = 1, PROTOCOL_UDP = 17 };
enum { UDP_HEADER = 8 };
enum { IP_BYTES = 4, IP6_BYTES = 16, IP6_NEXT = 20, IP6_SOURCE = 22, IP6_TARGET = 38, IP6_PAYLOAD = 54 };

static struct virtio_ring receive __attribute__((aligned(4096))), transmit __attribute__((aligned(4096)));
static struct virtio_ring control __attribute__((aligned(4096)));
static uint8_t received[QUEUE_SIZE][BUFFER_BYTES] __attribute__((aligned(4096)));
static uint8_t sent[MAX_SENT] __attribute__((aligned(4096)));
static uint8_t mac[MAC_BYTES];
static const uint8_t own_ip[4] = {10, 0, 2, 2};
static uint16_t seen;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static void put16(uint8_t *at, uint16_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void copy(uint8_t *to, const uint8_t *from, unsigned count) {
  for (unsigned i = 0; i < count; i++) ((volatile uint8_t *)to)[i] = from[i];
}
static bool same(const uint8_t *a, const uint8_t *b, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (a[i] != b[i]) return false;
  return true;
}

static bool net_start_with(uint32_t more_features) {
  if (!virtio_begin(DEVICE_NET, 0, FEATURES | more_features)) {
    print("net none\n");
    return false;
  }
  virtio_set_up_queue(RECEIVE, &receive);
  virtio_set_up_queue(TRANSMIT, &transmit);
  if (more_features) {
    virtio_set_up_queue(CONTROL, &control);
    virtio_hear_of_changes();
  }
  seen = 0;
  if (!virtio_ready()) return false;
  for (unsigned i = 0; i < MAC_BYTES; i++) mac[i] = virtio_config8(i);
  for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
    receive.descriptors[i] = (struct virtio_descriptor){(uintptr_t)received[i], BUFFER_BYTES, WRITE, 0};
    virtio_publish(RECEIVE, &receive, i);
  }
  return true;
}

static bool net_start(void) { return net_start_with(0); }

static bool has_frame(void) { return __atomic_load_n(&receive.used.index, __ATOMIC_ACQUIRE) != seen; }
static bool is_sent(void) { return __atomic_load_n(&transmit.used.index, __ATOMIC_ACQUIRE) == transmit.available.index; }

// Of a frame, which is in one buffer or in several.
struct part {
  uint8_t *bytes;
  uint32_t length;
};

static void send_parts(const struct part *parts, uint16_t count) {
  for (uint16_t i = 0; i < count; i++) {
    uint16_t next = i + 1 < count ? NEXT : 0;
    transmit.descriptors[i] = (struct virtio_descriptor){(uintptr_t)parts[i].bytes, parts[i].length, next, (uint16_t)(i + 1)};
  }
  virtio_publish(TRANSMIT, &transmit, 0);
  while (!is_sent()) wait_for_interrupt_unless(is_sent);
}

static void send(uint8_t *bytes, uint32_t length) {
  const struct part whole = {bytes, length};
  send_parts(&whole, 1);
}

// Waits for a frame; in how many buffers it is.
static uint16_t next_frame(struct part *parts) {
  uint16_t count = 1;
  for (uint16_t i = 0; i < count && i < QUEUE_SIZE; i++, seen++) {
    while (!has_frame()) wait_for_interrupt_unless(has_frame);
    uint32_t head = receive.used.entries[seen % QUEUE_SIZE].head;
    parts[i] = (struct part){received[head % QUEUE_SIZE], receive.used.entries[seen % QUEUE_SIZE].length};
    if (i == 0) count = (uint16_t)(parts[0].bytes[BUFFERS] | parts[0].bytes[BUFFERS + 1] << 8);
  }
  return count;
}

static void give_back(const struct part *parts, uint16_t count) {
  for (uint16_t i = 0; i < count; i++)
    virtio_publish(RECEIVE, &receive, (uint16_t)((parts[i].bytes - received[0]) / BUFFER_BYTES));
}

// Turns a frame to the one it came from, in place.
static void turn(uint8_t *frame) {
  copy(frame, frame + MAC_BYTES, MAC_BYTES);
  copy(frame + MAC_BYTES, mac, MAC_BYTES);
}

static bool answer_arp(uint8_t *frame, uint32_t length) {
  if (length < ARP_END || get16(frame + ARP_OPERATION) != 1 || !same(frame + ARP_TARGET_IP, own_ip, 4)) return false;
  turn(frame);
  put16(frame + ARP_OPERATION, 2);
  copy(frame + ARP_TARGET_MAC, frame + ARP_SENDER_MAC, MAC_BYTES + 4);
  copy(frame + ARP_SENDER_MAC, mac, MAC_BYTES);
  copy(frame + ARP_SENDER_IP, own_ip, 4);
  return true;
}

static bool answer_ping(uint8_t *frame, uint32_t length) {
  if (length < ICMP + 8 || frame[IP_PROTOCOL] != PROTOCOL_ICMP || frame[ICMP] != 8) return false;
  if (!same(frame + IP_TARGET, own_ip, 4)) return false;
  turn(frame);
  copy(frame + IP_TARGET, frame + IP_SOURCE, 4);
  copy(frame + IP_SOURCE, own_ip, 4);
  frame[ICMP] = 0;
  // RFC 1624: the type went from 8 to 0.
  uint32_t sum = get16(frame + ICMP_CHECKSUM) + 0x0800u;
  put16(frame + ICMP_CHECKSUM, (uint16_t)(sum + (sum >> 16)));
  return true;
}

static void swap(uint8_t *a, uint8_t *b, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    uint8_t kept = a[i];
    a[i] = b[i], b[i] = kept;
  }
}

// Sends a datagram back to where it came from. No checksum changes with that: it is a sum, of both addresses and ports.
static bool answer_datagram(uint8_t *frame, uint32_t length, unsigned udp) {
  if (length < udp + 8) return false;
  turn(frame);
  if (udp == ICMP) swap(frame + IP_SOURCE, frame + IP_TARGET, IP_BYTES);
  else swap(frame + IP6_SOURCE, frame + IP6_TARGET, IP6_BYTES);
  swap(frame + udp, frame + udp + 2, 2);
  return true;
}

static bool answer(uint8_t *frame, uint32_t length) {
  bool is_ip = get16(frame + ETHERTYPE) == TYPE_IPV4 && length > ICMP;
  bool is_ip6 = get16(frame + ETHERTYPE) == TYPE_IPV6 && length > IP6_PAYLOAD;
  if (is_ip && frame[IP_PROTOCOL] == PROTOCOL_UDP) return answer_datagram(frame, length, ICMP);
  if (is_ip6 && frame[IP6_NEXT] == PROTOCOL_UDP) return answer_datagram(frame, length, IP6_PAYLOAD);
  return is_ip && answer_ping(frame, length);
}

// Answers `count` pings and datagrams, and the ARP requests before.
void net_echo(uint64_t count) {
  if (!net_start()) return;
  print("net up\n");
  uint64_t answered = 0, bytes = 0;
  while (answered < count) {
    struct part parts[QUEUE_SIZE];
    uint16_t used = next_frame(parts);
    uint32_t length = 0;
    for (uint16_t i = 0; i < used; i++) length += parts[i].length;
    uint8_t *header = parts[0].bytes, *frame = header + HEADER;
    bool is_echo = false, answers = false;
    if (length > HEADER + ETHERNET) {
      if (get16(frame + ETHERTYPE) == TYPE_ARP) answers = answer_arp(frame, length - HEADER);
      else answers = is_echo = answer(frame, length - HEADER);
    }
    if (answers) {
      // What the header says of an unfinished checksum holds for the answer as well; the number of buffers does not.
      header[0] &= NEEDS_CHECKSUM;
      put16(header + BUFFERS, 0);
      send_parts(parts, used);
    }
    if (is_echo) answered++, bytes += length - HEADER;
    give_back(parts, used);
  }
  print("net answered %u questions of %u bytes\n", answered, bytes);
  virtio_end();
}

static const char digits[] = "0123456789abcdef";
static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint32_t read_frame(const char *hex) {
  uint32_t length = 0;
  for (; digit(hex[0]) >= 0 && digit(hex[1]) >= 0 && length < MAX_SENT; hex += 2)
    sent[length++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
  return length;
}

void net_send(const char *hex) {
  uint32_t length = read_frame(hex);
  if (!net_start()) return;
  send(sent, length);
  print("net sent %u bytes\n", (uint64_t)length);
  virtio_end();
}

static bool gave_up;
static bool has_frame_or_line(void) {
  static char line[16];
  return has_frame() || gave_up || (gave_up = console_read_line(line, sizeof line));
}

// Whether a frame holds a datagram over IPv4 to the port that the sent one came from.
static bool is_answer(const uint8_t *frame, uint32_t length) {
  if (length < ICMP + UDP_HEADER || get16(frame + ETHERTYPE) != TYPE_IPV4 || frame[IP_PROTOCOL] != PROTOCOL_UDP) return false;
  return same(frame + ICMP + 2, sent + HEADER + ICMP, 2);
}

static void print_payload(const uint8_t *frame, uint32_t length) {
  print("net answer ");
  for (uint32_t i = ICMP + UDP_HEADER; i < length; i++) {
    print("%c%c", (int)digits[frame[i] >> 4], (int)digits[frame[i] & 15]);
  }
  print("\n");
}

// Sends a frame with a datagram over IPv4, and tells what comes back to it; a line that is typed ends the wait.
void net_ask(const char *hex) {
  uint32_t length = read_frame(hex);
  if (!net_start()) return;
  send(sent, length);
  print("net asked\n");
  bool answered = false;
  for (gave_up = false; !answered && !gave_up;) {
    while (!has_frame_or_line()) wait_for_interrupt_unless(has_frame_or_line);
    if (!has_frame()) break;
    uint32_t head = receive.used.entries[seen % QUEUE_SIZE].head, received_bytes = receive.used.entries[seen % QUEUE_SIZE].length;
    seen++;
    uint8_t *frame = received[head % QUEUE_SIZE] + HEADER;
    if (received_bytes > HEADER && received_bytes <= BUFFER_BYTES) answered = is_answer(frame, received_bytes - HEADER);
    if (answered) print_payload(frame, received_bytes - HEADER);
    virtio_publish(RECEIVE, &receive, (uint16_t)head);
  }
  if (!answered) print("net no answer\n");
  virtio_end();
}

// A web server of one answer, over both families. It keeps nothing of a connection: a segment tells what its answer is.
enum { PROTOCOL_TCP = 6, TCP_HEADER = 20, SEQUENCE = 4, ACKNOWLEDGED = 8, OFFSET = 12, FLAGS = 13, WINDOW = 14, CHECKSUM = 16 };
enum { FIN = 1, SYN = 2, RST = 4, PUSH = 8, ACK = 16, FIRST_SEQUENCE = 1000 };
enum { IP_LENGTH = 16, IP_TTL = 22, IP_CHECKSUM = 24, IP6_LENGTH = 18, IP6_HOPS = 21 };
static const char web_page[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static void put32(uint8_t *at, uint32_t value) { put16(at, (uint16_t)(value >> 16)), put16(at + 2, (uint16_t)value); }

// RFC 1071.
static uint16_t internet_checksum(uint32_t sum, const uint8_t *at, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) sum += i & 1 ? at[i] : (uint32_t)at[i] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

// The headers of the answer to `frame` that do not depend on what is in it.
static void turn_headers(const uint8_t *frame, uint8_t *out, uint32_t length, bool is_ip6) {
  for (uint32_t i = 0; i < length; i++) out[i] = 0;
  copy(out, frame + MAC_BYTES, MAC_BYTES);
  copy(out + MAC_BYTES, mac, MAC_BYTES);
  put16(out + ETHERTYPE, is_ip6 ? TYPE_IPV6 : TYPE_IPV4);
  if (is_ip6) {
    out[ETHERNET] = 0x60, out[IP6_NEXT] = PROTOCOL_TCP, out[IP6_HOPS] = 64;
    put16(out + IP6_LENGTH, (uint16_t)(length - IP6_PAYLOAD));
    copy(out + IP6_SOURCE, frame + IP6_TARGET, IP6_BYTES);
    copy(out + IP6_TARGET, frame + IP6_SOURCE, IP6_BYTES);
    return;
  }
  out[ETHERNET] = 0x45, out[IP_PROTOCOL] = PROTOCOL_TCP, out[IP_TTL] = 64;
  put16(out + IP_LENGTH, (uint16_t)(length - ETHERNET));
  copy(out + IP_SOURCE, frame + IP_TARGET, IP_BYTES);
  copy(out + IP_TARGET, frame + IP_SOURCE, IP_BYTES);
  put16(out + IP_CHECKSUM, internet_checksum(0, out + ETHERNET, ICMP - ETHERNET));
}

// Puts the answer to a segment into `out`; its length, or 0 for none.
static uint32_t answer_segment(const uint8_t *frame, uint32_t length, uint16_t port, uint8_t *out) {
  bool is_ip6 = get16(frame + ETHERTYPE) == TYPE_IPV6;
  unsigned tcp = is_ip6 ? IP6_PAYLOAD : ICMP;
  if (length < tcp + TCP_HEADER || frame[is_ip6 ? IP6_NEXT : IP_PROTOCOL] != PROTOCOL_TCP) return 0;
  const uint8_t *segment = frame + tcp;
  // A frame may be longer than what is in it.
  uint32_t end = is_ip6 ? IP6_PAYLOAD + get16(frame + IP6_LENGTH) : ETHERNET + get16(frame + IP_LENGTH);
  uint32_t start = tcp + (uint32_t)(segment[OFFSET] >> 4) * 4;
  uint8_t flags = segment[FLAGS];
  if (end > length || start > end || get16(segment + 2) != port || flags & RST) return 0;
  uint32_t payload = end - start, acknowledged = get32(segment + ACKNOWLEDGED);
  uint32_t page = payload ? sizeof web_page - 1 : 0;
  uint8_t reply = ACK;
  if (flags & SYN) reply |= SYN;
  else if (payload) reply |= PUSH | FIN;
  else if (!(flags & FIN)) return 0;
  else if (acknowledged == FIRST_SEQUENCE + 1) reply |= FIN;  // it was sent nothing, so no end either

  uint32_t total = tcp + TCP_HEADER + page;
  turn_headers(frame, out, total, is_ip6);
  uint8_t *made = out + tcp;
  copy(made, segment + 2, 2);
  copy(made + 2, segment, 2);
  put32(made + SEQUENCE, flags & SYN ? FIRST_SEQUENCE : acknowledged);
  put32(made + ACKNOWLEDGED, get32(segment + SEQUENCE) + payload + !!(flags & SYN) + !!(flags & FIN));
  made[OFFSET] = TCP_HEADER / 4 << 4, made[FLAGS] = reply;
  put16(made + WINDOW, 0xffff);
  copy(made + TCP_HEADER, (const uint8_t *)web_page, page);
  // The addresses are summed with the segment, which follows them.
  unsigned addresses = is_ip6 ? IP6_SOURCE : IP_SOURCE;
  put16(made + CHECKSUM, internet_checksum(PROTOCOL_TCP + TCP_HEADER + page, out + addresses, total - addresses));
  return total;
}

// Answers TCP connections to `port` as a web server does, and the ARP requests before, until a line is typed.
void net_serve(uint16_t port) {
  if (!net_start()) return;
  print("net serves\n");
  uint64_t answered = 0;
  for (gave_up = false; !gave_up;) {
    while (!has_frame_or_line()) wait_for_interrupt_unless(has_frame_or_line);
    if (!has_frame()) break;
    struct part parts[QUEUE_SIZE];
    uint16_t used = next_frame(parts);
    uint8_t *frame = parts[0].bytes + HEADER;
    uint32_t length = used == 1 && parts[0].length > HEADER + ETHERNET ? parts[0].length - HEADER : 0;
    if (length && get16(frame + ETHERTYPE) == TYPE_ARP && answer_arp(frame, length)) {
      for (unsigned i = 0; i < HEADER; i++) parts[0].bytes[i] = 0;
      send_parts(parts, used);
    } else if (length) {
      for (unsigned i = 0; i < HEADER; i++) sent[i] = 0;
      uint32_t made = answer_segment(frame, length, port, sent + HEADER);
      if (made) send(sent, HEADER + made), answered++;
    }
    give_back(parts, used);
  }
  print("net served %u segments\n", answered);
  virtio_end();
}

static bool is_asked(void) { return virtio_config8(STATUS) & ANNOUNCE; }
static bool is_told(void) { return __atomic_load_n(&control.used.index, __ATOMIC_ACQUIRE) == control.available.index; }

// As RFC 5227 has it: a request for the own address, from the own address.
static uint32_t announcement(void) {
  for (unsigned i = 0; i < HEADER + ARP_END; i++) sent[i] = 0;
  uint8_t *frame = sent + HEADER;
  for (unsigned i = 0; i < MAC_BYTES; i++) frame[i] = 0xff;
  copy(frame + MAC_BYTES, mac, MAC_BYTES);
  put16(frame + ETHERTYPE, TYPE_ARP);
  static const uint8_t ethernet_and_ipv4[] = {0, 1, 8, 0, MAC_BYTES, IP_BYTES, 0, 1};
  copy(frame + ETHERNET, ethernet_and_ipv4, sizeof ethernet_and_ipv4);
  copy(frame + ARP_SENDER_MAC, mac, MAC_BYTES);
  copy(frame + ARP_SENDER_IP, own_ip, IP_BYTES);
  copy(frame + ARP_TARGET_MAC, mac, MAC_BYTES);  // which tells it from what others send in our name
  copy(frame + ARP_TARGET_IP, own_ip, IP_BYTES);
  return HEADER + ARP_END;
}

// Nothing but the device's interrupt ends the wait. Section 5.1.6.5.4.
void net_announce(void) {
  static uint8_t command[2];
  static volatile uint8_t answer;
  if (!net_start_with(FEATURES_TO_ANNOUNCE)) return;
  print("net waits, status 0x%x\n", (uint64_t)virtio_config8(STATUS));
  while (!is_asked()) wait_for_interrupt_unless(is_asked);
  uint64_t asked = virtio_config8(STATUS);
  send(sent, announcement());
  command[0] = CONTROL_ANNOUNCE, command[1] = ANNOUNCE_ACKNOWLEDGED;
  answer = 0xff;
  control.descriptors[0] = (struct virtio_descriptor){(uintptr_t)command, sizeof command, NEXT, 1};
  control.descriptors[1] = (struct virtio_descriptor){(uintptr_t)&answer, 1, WRITE, 0};
  virtio_publish(CONTROL, &control, 0);
  while (!is_told()) wait_for_interrupt_unless(is_told);
  print("net announced, status 0x%x, answer %u, status 0x%x\n", asked, (uint64_t)answer, (uint64_t)virtio_config8(STATUS));
  virtio_end();
}

// Garbage in headers, descriptors and rings, each on a device that was reset before.
void net_hostile(uint64_t rounds, uint64_t (*random)(void)) {
  uint64_t up = 0;
  for (uint64_t round = 0; round < rounds; round++) {
    if (!net_start()) break;
    up++;
    for (unsigned i = 0; i < MAX_SENT; i++) sent[i] = (uint8_t)random();
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
      uint64_t r = random();
      uint64_t address = r & 1 ? (uintptr_t)sent + (r >> 8) % MAX_SENT : random();
      uint32_t length = r & 2 ? (uint32_t)(random() % 512) : (uint32_t)random();
      struct virtio_ring *ring = r & 4 ? &receive : &transmit;
      ring->descriptors[i] = (struct virtio_descriptor){address, length, (uint16_t)((r >> 32) & 7), (uint16_t)((r >> 40) % 9)};
    }
    for (unsigned i = 0; i < 4; i++) {
      uint64_t r = random();
      struct virtio_ring *ring = r & 1 ? &receive : &transmit;
      if (r & 2) ring->available.index += (uint16_t)(r >> 48) % 12;
      virtio_publish((uint16_t)(r & 1 ? RECEIVE : TRANSMIT), ring, (uint16_t)((r >> 16) % 9));
    }
  }
  bool works = net_start();
  print("netgarbage rounds %u, the interface %s\n", up, works ? "works" : "does not work");
  virtio_end();
}
