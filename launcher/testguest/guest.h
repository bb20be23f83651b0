// What the parts of the test guest share. Freestanding; runs with interrupts on, on the boot processor.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Ports and addresses of the machine: launcher/src/boot/x86/layout.ts.
enum {
  PORT_SERIAL = 0x3f8,
  PORT_PVPANIC = 0x505,
  PORT_RESET = 0x600,
  PORT_SLEEP = 0x601,
  PORT_EVENTS = 0x603,
  PORT_PCI_PLUGGED = 0x610,
  PORT_PCI_UNPLUG = 0x614,
  PORT_PCI_EJECT = 0x618,
  RESET_VALUE = 0x06,
  SLEEP_S5 = 5 << 2 | 0x20,
};
#define ECAM 0xe0000000ul
#define IOAPIC 0xfec00000ul
#define LAPIC 0xfee00000ul
// Free low memory, known to tests: the code other processors start with, and a counter of 8 bytes a processor.
#define TRAMPOLINE 0x1000ul
#define SPIN_COUNTERS 0x2000ul
// Interrupts of the timer so far, 8 bytes.
#define TIMER_TICKS 0x3000ul

// Vectors. Those from VECTOR_MESSAGE on are only counted: for message-signalled interrupts.
enum { VECTOR_SERIAL = 0x34, VECTOR_POWER = 0x35, VECTOR_WAKE = 0x40, VECTOR_TIMER = 0x41, VECTOR_MESSAGE = 0x50, MESSAGE_VECTORS = 16 };
enum { MAX_CPUS = 64 };

static inline void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(uint16_t port, uint16_t value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint16_t in16(uint16_t port) {
  uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint32_t in32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

#define AT(type, address) (*(volatile type *)(uintptr_t)(address))

static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static inline uint64_t time_stamp(void) {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}
static inline void write_msr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr" ::"c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}
static inline uint64_t read_msr(uint32_t index) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (uint64_t)high << 32 | low;
}
static inline void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
  asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(subleaf));
}

// console.c: lines out, lines in.
void print(const char *format, ...);  // %s, %u (64 bits), %x (64 bits), %c
void console_start(void);
void console_interrupt(void);
void console_poll(bool whether);
void console_send(const char *text, size_t count);
bool console_read_line(char *line, size_t size);  // false when there is none yet

// interrupts.c
void interrupts_start(void);
extern volatile uint64_t interrupt_counts[256];
// Runs a function at CPL 3; interrupts are taken meanwhile.
void run_unprivileged(void (*function)(void));
void wait_for_interrupt_unless(bool (*ready)(void));
uint32_t own_apic_id(void);

// power.c
void power_event_interrupt(void);
void power_off(void);
void power_button_ignore(void);

// processors.c
unsigned processors_start(void);  // answers how many run, the boot processor included
// All others do it: count at SPIN_COUNTERS for ever, read a port that a device has to answer for ever, or print lines.
void processors_work(void (*what)(unsigned processor));
_Noreturn void spin(unsigned processor);
_Noreturn void flood(unsigned processor);
void talk(unsigned processor);
void talk_start(uint64_t lines);
bool talk_is_over(void);

// pci.c
void pci_list(void);
void pci_slots_changed(bool gives_up);
uint64_t pci_find(uint16_t vendor, uint16_t device, unsigned index);  // its configuration space, or 0

// virtio.c: for drivers of devices with several queues
enum { QUEUE_SIZE = 8 };
struct virtio_descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
struct virtio_ring {
  struct virtio_descriptor descriptors[QUEUE_SIZE];
  struct {
    uint16_t flags, index, entries[QUEUE_SIZE];
  } available;
  struct {
    uint16_t flags, index;
    struct {
      uint32_t head, length;
    } entries[QUEUE_SIZE];
  } used __attribute__((aligned(4)));
};
bool virtio_begin(uint16_t device, unsigned index, uint32_t features);
void virtio_set_up_queue(uint16_t which, struct virtio_ring *its);
bool virtio_ready(void);
uint32_t virtio_features(void);  // the low ones that were agreed on
void virtio_end(void);
bool virtio_begin_disk(unsigned disk, bool event_index);
void virtio_place_queue(uint16_t which, uint16_t entries, const uint64_t addresses[3]);  // descriptors, available, used
void virtio_hear_of_changes(void);  // between virtio_begin and virtio_ready
uint64_t virtio_doorbell(uint16_t which);
uint64_t virtio_config64(unsigned offset);
uint8_t virtio_config8(unsigned offset);
void virtio_publish(uint16_t which, struct virtio_ring *its, uint16_t head);  // makes `head` available, and rings

// net.c
void net_echo(uint64_t count);
void net_send(const char *hex);
void net_ask(const char *hex);
void net_serve(uint16_t port);
void net_announce(void);
void net_hostile(uint64_t rounds, uint64_t (*random)(void));

// net-benchmark.c
struct net_load {
  uint64_t depth, count, length, returns, segment;
};
void net_benchmark(const struct net_load *wanted);

// vsock.c: echoes one stream
void vsock_serve(uint32_t port);
void vsock_dial(uint32_t port);

// virtio.c: each prints how it went
void disk_read(unsigned disk, uint64_t sector);
void disk_write(unsigned disk, uint64_t sector, uint64_t value);
void disk_flush(unsigned disk);
void disk_id(unsigned disk);
void disk_zero(unsigned disk, uint64_t sector, uint32_t sectors, bool discard);
void disk_speed(unsigned disk, uint64_t count);
void disk_garbage(unsigned disk, uint64_t rounds, uint64_t (*random)(void));
void random_bytes(uint32_t length);
void virtio_console_print(const char *text, uint32_t length, uint64_t count);
void virtio_console_read(void);

// load.c
void timer_start(uint64_t period, bool deadline);  // in ticks of the local APIC's timer, or of the time stamp counter
void timer_interrupt(void);
uint64_t timer_count(void);
void load_run(uint64_t address, uint64_t pages);
void load_run_paced(uint64_t address, uint64_t pages, uint64_t count, uint64_t period);
void memory_fill(uint64_t address, uint64_t pages, uint64_t seed);
uint64_t memory_errors(uint64_t address, uint64_t pages, uint64_t seed);

// benchmark.c
struct disk_load {
  uint64_t depth, count;
  uint32_t block_bytes;
  bool random, write, event_index;
};
void disk_benchmark(unsigned disk, const struct disk_load *wanted);

// journal.c
void disk_journal(unsigned disk, uint64_t first, uint64_t count);

// commands.c
void run_command(char *line);

// start.S
void enter_unprivileged(void (*function)(void));
extern const uint8_t end_unprivileged[];
extern const uint8_t interrupt_stubs[], trampoline[], trampoline_end[];
extern volatile uint32_t ap_count;
