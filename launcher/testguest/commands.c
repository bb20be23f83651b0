// The commands, as typed on the console or given on the kernel command line. Each answers with a line at least.
#include "guest.h"

enum { MAX_ARGUMENTS = 7 };

struct arguments {
  char *text;  // all that follows the name
  uint64_t number[MAX_ARGUMENTS];
  unsigned count;
};

// Decimal, or hexadecimal with 0x; stops at the first other character.
static uint64_t parse_number(const char *text) {
  unsigned base = 10;
  uint64_t value = 0;
  if (text[0] == '0' && text[1] == 'x') {
    base = 16;
    text += 2;
  }
  for (;; text++) {
    unsigned digit = *text >= 'a' ? *text - 'a' + 10u : *text >= '0' ? *text - '0' + 0u : 99;
    if (digit >= base) return value;
    value = value * base + digit;
  }
}

static uint64_t read_width(uint64_t address, uint64_t width) {
  switch (width) {
    case 1: return AT(uint8_t, address);
    case 2: return AT(uint16_t, address);
    case 4: return AT(uint32_t, address);
    default: return AT(uint64_t, address);
  }
}

static void write_width(uint64_t address, uint64_t width, uint64_t value) {
  switch (width) {
    case 1: AT(uint8_t, address) = (uint8_t)value; break;
    case 2: AT(uint16_t, address) = (uint16_t)value; break;
    case 4: AT(uint32_t, address) = (uint32_t)value; break;
    default: AT(uint64_t, address) = value;
  }
}

static void command_echo(struct arguments *a) { print("%s\n", a->text); }

static void command_poweroff(struct arguments *a) {
  (void)a;
  power_off();
}

// From now on the power button and the wish for a slot are read and nothing done.
static void command_deaf(struct arguments *a) {
  (void)a;
  power_button_ignore();
  print("deaf\n");
}

static void command_reboot(struct arguments *a) {
  (void)a;
  print("reboot\n");
  out8(PORT_RESET, RESET_VALUE);
}

static void command_triplefault(struct arguments *a) {
  (void)a;
  struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) none = {0, 0};
  print("triple fault\n");
  asm volatile("lidt %0; ud2" ::"m"(none));
}

static void command_panic(struct arguments *a) {
  (void)a;
  out8(PORT_PVPANIC, 1);
  print("panicked\n");
}

static void command_spin(struct arguments *a) {
  (void)a;
  print("spinning\n");
  processors_work(spin);
  spin(0);
}

static void command_floodall(struct arguments *a) {
  (void)a;
  print("all flooding\n");
  processors_work(flood);
  flood(0);
}

static void print_lines(uint64_t count) {
  for (uint64_t i = 0; i < count; i++) print("line %u\n", i);
}

// lines COUNT: as fast as it can.
static void command_lines(struct arguments *a) {
  print_lines(a->number[0]);
  print("lines done\n");
}

// polledlines COUNT: asks the serial port for room before each character.
static void command_polledlines(struct arguments *a) {
  console_poll(true);
  print_lines(a->number[0]);
  console_poll(false);
  print("polledlines done\n");
}

// sentlines COUNT: by "transmitter empty" interrupts.
static void command_sentlines(struct arguments *a) {
  static const char text[] = "a line of some forty characters, sent\r\n";
  for (uint64_t i = 0; i < a->number[0]; i++) console_send(text, sizeof text - 1);
  print("sentlines done\n");
}

// talkall COUNT: lines of all processors, mixed.
static void command_talkall(struct arguments *a) {
  talk_start(a->number[0]);
  processors_work(talk);
  talk(0);
  while (!talk_is_over()) pause();
  print("talkall done\n");
}

static void command_hlt(struct arguments *a) {
  (void)a;
  print("halted\n");
  for (;;) asm volatile("cli; hlt");
}

// Port reads that a device has to answer, one exit each: as many as asked, or for ever.
static void command_flood(struct arguments *a) {
  print("flooding\n");
  uint64_t start = time_stamp();
  for (uint64_t i = 0; a->count == 0 || i < a->number[0]; i++) in8(PORT_SERIAL + 5);
  print("flooded %u in %u ticks\n", a->number[0], time_stamp() - start);
}

// xorshift: any garbage that can be had again from its seed.
static uint64_t random_state;
static uint64_t random_number(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// Reset and sleep, the keyboard controller's reset, and the PICs, which would interrupt on vectors of exceptions.
static bool is_spared(uint16_t port) {
  uint16_t last = port + 3;
  return (last >= PORT_RESET && port <= PORT_SLEEP) || (last >= 0x64 && port <= 0x64) || (last >= 0x20 && port <= 0x21) ||
         (last >= 0xa0 && port <= 0xa1);
}

static void garbage_to_port(uint64_t r, uint64_t value) {
  // Half of it to ports where something is likely to answer.
  uint16_t port = r & 0x40 ? (uint16_t)(r >> 16) : (uint16_t)(r >> 16) & 0x7ff;
  bool is_write = r & 8;
  if (is_write && (is_spared(port) || port == PORT_SERIAL)) return;
  switch (r & 3) {
    case 0: is_write ? out8(port, (uint8_t)value) : (void)in8(port); break;
    case 1: is_write ? out16(port, (uint16_t)value) : (void)in16(port); break;
    default: is_write ? out32(port, (uint32_t)value) : (void)in32(port);
  }
}

// PCI configuration space and the 32-bit window, odd widths and offsets included.
static void garbage_to_mmio(uint64_t r, uint64_t value) {
  uint64_t address = r & 0x40 ? ECAM + (r >> 16) % (1 << 20) : 0xc0000000ul + (r >> 16) % 0x20000000;
  uint64_t width = 1u << (r & 3);
  if (r & 8) write_width(address, width, value);
  else read_width(address, width);
}

// garbage [COUNT [SEED]]
static void command_garbage(struct arguments *a) {
  uint64_t count = a->count > 0 ? a->number[0] : 1000;
  random_state = a->count > 1 && a->number[1] ? a->number[1] : 88172645463325252ul;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t r = random_number(), value = random_number();
    if (r & 0x80) garbage_to_port(r, value);
    else garbage_to_mmio(r, value);
  }
  console_start();
  print("garbage done\n");
}

// in PORT WIDTH, out PORT WIDTH VALUE
static void command_in(struct arguments *a) {
  uint16_t port = (uint16_t)a->number[0];
  uint64_t value = a->number[1] == 1 ? in8(port) : a->number[1] == 2 ? in16(port) : in32(port);
  print("in 0x%x\n", value);
}

static void command_out(struct arguments *a) {
  uint16_t port = (uint16_t)a->number[0];
  if (a->number[1] == 1) out8(port, (uint8_t)a->number[2]);
  else if (a->number[1] == 2) out16(port, (uint16_t)a->number[2]);
  else out32(port, (uint32_t)a->number[2]);
  print("out done\n");
}

// outs PORT WIDTH COUNT: writes 0, 1, 2 ... with one string instruction; ins reads as many and prints their sum.
static uint32_t string_buffer[64];

static uint64_t string_count(struct arguments *a) {
  uint64_t most = sizeof string_buffer / a->number[1];
  return a->number[2] < most ? a->number[2] : most;
}

static void command_outs(struct arguments *a) {
  uint64_t count = string_count(a), width = a->number[1];
  uintptr_t at = (uintptr_t)string_buffer;
  for (uint64_t i = 0; i < count; i++) write_width(at + i * width, width, i);
  if (width == 1) asm volatile("rep outsb" : "+S"(at), "+c"(count) : "d"((uint16_t)a->number[0]) : "memory");
  else if (width == 2) asm volatile("rep outsw" : "+S"(at), "+c"(count) : "d"((uint16_t)a->number[0]) : "memory");
  else asm volatile("rep outsl" : "+S"(at), "+c"(count) : "d"((uint16_t)a->number[0]) : "memory");
  print("outs done\n");
}

static void command_ins(struct arguments *a) {
  uint64_t count = string_count(a), left = count, width = a->number[1], sum = 0;
  uintptr_t at = (uintptr_t)string_buffer;
  if (width == 1) asm volatile("rep insb" : "+D"(at), "+c"(left) : "d"((uint16_t)a->number[0]) : "memory");
  else if (width == 2) asm volatile("rep insw" : "+D"(at), "+c"(left) : "d"((uint16_t)a->number[0]) : "memory");
  else asm volatile("rep insl" : "+D"(at), "+c"(left) : "d"((uint16_t)a->number[0]) : "memory");
  for (uint64_t i = 0; i < count; i++) sum += read_width((uintptr_t)string_buffer + i * width, width);
  print("ins 0x%x\n", sum);
}

// read ADDRESS WIDTH, write ADDRESS WIDTH VALUE [COUNT]
static void command_read(struct arguments *a) { print("read 0x%x\n", read_width(a->number[0], a->number[1])); }

static void command_write(struct arguments *a) {
  uint64_t count = a->count > 3 ? a->number[3] : 1;
  for (uint64_t i = 0; i < count; i++) write_width(a->number[0], a->number[1], a->number[2]);
  print("write done\n");
}

static void command_mem(struct arguments *a) {
  print("mem 0x%x: 0x%x\n", a->number[0], AT(uint64_t, a->number[0]));
}

// dirty ADDRESS PAGES: writes the first byte of each page.
static void command_dirty(struct arguments *a) {
  for (uint64_t i = 0; i < a->number[1]; i++) AT(uint8_t, a->number[0] + i * 4096) = 1;
  print("dirty done\n");
}

// interrupts VECTOR: how many came so far.
static void command_interrupts(struct arguments *a) {
  print("interrupts 0x%x: %u\n", a->number[0] & 0xff, interrupt_counts[a->number[0] & 0xff]);
}

static void command_cpus(struct arguments *a) {
  (void)a;
  print("cpus %u\n", (uint64_t)processors_start());
}

// cpuid LEAF [SUBLEAF]
static void command_cpuid(struct arguments *a) {
  uint32_t r[4];
  cpuid((uint32_t)a->number[0], (uint32_t)a->number[1], r);
  print("cpuid 0x%x 0x%x 0x%x 0x%x\n", (uint64_t)r[0], (uint64_t)r[1], (uint64_t)r[2], (uint64_t)r[3]);
}

static void command_pci(struct arguments *a) {
  (void)a;
  pci_list();
}

// blkid DISK, blkread DISK SECTOR, blkwrite DISK SECTOR VALUE, blkflush DISK, blkzero and blkdiscard DISK SECTOR COUNT
static void command_blkid(struct arguments *a) { disk_id((unsigned)a->number[0]); }
static void command_blkread(struct arguments *a) { disk_read((unsigned)a->number[0], a->number[1]); }
static void command_blkwrite(struct arguments *a) { disk_write((unsigned)a->number[0], a->number[1], a->number[2]); }
static void command_blkflush(struct arguments *a) { disk_flush((unsigned)a->number[0]); }
static void command_blkzero(struct arguments *a) {
  disk_zero((unsigned)a->number[0], a->number[1], (uint32_t)a->number[2], false);
}
static void command_blkdiscard(struct arguments *a) {
  disk_zero((unsigned)a->number[0], a->number[1], (uint32_t)a->number[2], true);
}

// blkspeed DISK COUNT
static void command_blkspeed(struct arguments *a) { disk_speed((unsigned)a->number[0], a->number[1]); }

// blkbench DISK DEPTH COUNT BYTES RANDOM WRITE [EVENT_IDX]
static void command_blkbench(struct arguments *a) {
  struct disk_load load = {.depth = a->number[1], .count = a->number[2], .block_bytes = (uint32_t)a->number[3],
                           .random = a->number[4], .write = a->number[5],
                           .event_index = a->count > 6 && a->number[6]};
  disk_benchmark((unsigned)a->number[0], &load);
}

// blkjournal DISK FIRST [COUNT]: transactions, for ever where no number is said
static void command_blkjournal(struct arguments *a) {
  disk_journal((unsigned)a->number[0], a->number[1], a->count > 2 ? a->number[2] : 0);
}

// blkgarbage DISK ROUNDS [SEED]
static void command_blkgarbage(struct arguments *a) {
  random_state = a->count > 2 && a->number[2] ? a->number[2] : 88172645463325252ul;
  disk_garbage((unsigned)a->number[0], a->number[1], random_number);
}

// rng BYTES
static void command_rng(struct arguments *a) { random_bytes((uint32_t)a->number[0]); }

// hvcprint COUNT: lines on the virtio console, for ever where it is 0; hvcread: waits for input there.
static void command_hvcprint(struct arguments *a) {
  static const char text[] = "a line on the virtio console\r\n";
  print("hvc prints\n");
  virtio_console_print(text, sizeof text - 1, a->number[0]);
}
static void command_hvcread(struct arguments *a) {
  (void)a;
  virtio_console_read();
}

// netecho COUNT: the host 10.0.2.2 answers ARP, and pings and datagrams (these of both families) until it has answered so many.
static void command_netecho(struct arguments *a) { net_echo(a->number[0]); }

// netsend HEX: a frame with its header, as it stands.
static void command_netsend(struct arguments *a) { net_send(a->text); }

// netask HEX: such a frame, with a datagram over IPv4, and what comes back to it.
static void command_netask(struct arguments *a) { net_ask(a->text); }

// netserve PORT: a web server with one answer, until a line is typed.
static void command_netserve(struct arguments *a) { net_serve((uint16_t)a->number[0]); }

// netannounce: waits until the device asks for it, makes the interface known to its network, and says so to the device.
static void command_netannounce(struct arguments *a) {
  (void)a;
  net_announce();
}

// netgarbage ROUNDS [SEED]
static void command_netgarbage(struct arguments *a) {
  random_state = a->count > 1 && a->number[1] ? a->number[1] : 88172645463325252ul;
  net_hostile(a->number[0], random_number);
}

// netbench DEPTH COUNT LENGTH [RETURNS [SEGMENT]]: frames of LENGTH bytes, DEPTH at a time, until COUNT of them are sent and
// for each RETURNS have come back; TCP in segments of SEGMENT bytes where that is not 0.
static void command_netbench(struct arguments *a) {
  struct net_load load = {.depth = a->number[0], .count = a->number[1], .length = a->number[2],
                          .returns = a->count > 3 ? a->number[3] : 0, .segment = a->count > 4 ? a->number[4] : 0};
  net_benchmark(&load);
}

// vsockserve PORT: gives one stream of the host's back to it; vsockdial PORT: the same, but opens it.
static void command_vsockserve(struct arguments *a) { vsock_serve((uint32_t)a->number[0]); }
static void command_vsockdial(struct arguments *a) { vsock_dial((uint32_t)a->number[0]); }

// timer PERIOD [DEADLINE]: interrupts one after the other, by the APIC's counter or by the deadline; ticks: how many.
static void command_timer(struct arguments *a) {
  timer_start(a->number[0], a->count > 1 && a->number[1]);
  print("timer runs\n");
}
static void command_ticks(struct arguments *a) {
  (void)a;
  print("ticks %u\n", timer_count());
}

// load ADDRESS PAGES, until a line is typed; pace ADDRESS PAGES COUNT PERIOD, so many in a period of the time stamp counter;
// fill and check ADDRESS PAGES SEED
static void command_load(struct arguments *a) { load_run(a->number[0], a->number[1]); }
static void command_pace(struct arguments *a) {
  load_run_paced(a->number[0], a->number[1], a->number[2], a->number[3]);
}
static void command_fill(struct arguments *a) {
  memory_fill(a->number[0], a->number[1], a->number[2]);
  print("fill done\n");
}
static void command_check(struct arguments *a) {
  print("check errors %u\n", memory_errors(a->number[0], a->number[1], a->number[2]));
}

// rdmsr INDEX, wrmsr INDEX VALUE
static void command_rdmsr(struct arguments *a) {
  print("msr 0x%x: 0x%x\n", a->number[0], read_msr((uint32_t)a->number[0]));
}
static void command_wrmsr(struct arguments *a) {
  write_msr((uint32_t)a->number[0], a->number[1]);
  print("wrmsr done\n");
}

// tsc
static void command_tsc(struct arguments *a) {
  (void)a;
  print("tsc %u\n", time_stamp());
}

static const struct {
  const char *name;
  void (*run)(struct arguments *);
} commands[] = {
    {"echo", command_echo},     {"poweroff", command_poweroff}, {"deaf", command_deaf}, {"reboot", command_reboot},
    {"panic", command_panic},   {"triplefault", command_triplefault}, {"spin", command_spin},
    {"lines", command_lines},   {"polledlines", command_polledlines}, {"sentlines", command_sentlines},
    {"talkall", command_talkall},
    {"hlt", command_hlt},       {"flood", command_flood}, {"floodall", command_floodall},       {"garbage", command_garbage},
    {"in", command_in},         {"out", command_out},           {"ins", command_ins},
    {"outs", command_outs},     {"read", command_read},         {"write", command_write},
    {"mem", command_mem},       {"dirty", command_dirty},       {"interrupts", command_interrupts},
    {"cpus", command_cpus},     {"cpuid", command_cpuid},       {"pci", command_pci},
    {"blkid", command_blkid},   {"blkread", command_blkread},   {"blkwrite", command_blkwrite},
    {"blkflush", command_blkflush}, {"blkzero", command_blkzero}, {"blkdiscard", command_blkdiscard},
    {"blkspeed", command_blkspeed}, {"blkgarbage", command_blkgarbage}, {"blkjournal", command_blkjournal},
    {"blkbench", command_blkbench}, {"rng", command_rng},
    {"netecho", command_netecho}, {"netsend", command_netsend}, {"netask", command_netask},
    {"netserve", command_netserve},
    {"netannounce", command_netannounce},
    {"netgarbage", command_netgarbage}, {"netbench", command_netbench},
    {"vsockserve", command_vsockserve}, {"vsockdial", command_vsockdial},
    {"hvcprint", command_hvcprint}, {"hvcread", command_hvcread},
    {"timer", command_timer},   {"ticks", command_ticks},       {"load", command_load},
    {"pace", command_pace},
    {"fill", command_fill},     {"check", command_check},       {"tsc", command_tsc},
    {"rdmsr", command_rdmsr},   {"wrmsr", command_wrmsr},
};

static bool same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

void run_command(char *line) {
  struct arguments a = {.text = line};
  while (*a.text && *a.text != ' ') a.text++;
  if (*a.text) *a.text++ = 0;
  for (const char *s = a.text; a.count < MAX_ARGUMENTS && *s >= '0' && *s <= '9';) {
    a.number[a.count++] = parse_number(s);
    while (*s && *s != ' ') s++;
    while (*s == ' ') s++;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (!same(commands[i].name, line)) continue;
    commands[i].run(&a);
    return;
  }
  print("unknown command: %s\n", line);
}
