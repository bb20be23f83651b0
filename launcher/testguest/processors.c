#include "guest.h"

enum { ICR_LOW = 0x300, ALL_OTHERS_INIT = 0xc4500, ALL_OTHERS_START = 0xc4600, ALL_OTHERS_FIXED = 0xc4000 };
enum { TOPOLOGY_LEAF = 0x0b, CORES = 1 };
// How often to look for processors that do not come: far longer than they take, whatever the speed.
enum { PATIENCE = 1 << 20 };

static void (*volatile work)(unsigned processor);
static volatile uint32_t work_number;  // each is done once
static volatile uint32_t online = 1;

_Noreturn void spin(unsigned processor) {
  for (;;) AT(uint64_t, SPIN_COUNTERS + processor * 8) += 1;
}

_Noreturn void flood(unsigned processor) {
  (void)processor;
  for (;;) in8(PORT_SERIAL + 7);
}

static volatile uint32_t talk_lock, talkers;
static uint64_t talk_lines;

void talk_start(uint64_t lines) {
  talk_lines = lines;
  talkers = online;
}

bool talk_is_over(void) { return talkers == 0; }

// Lines of all processors in turn, none of them torn.
void talk(unsigned processor) {
  for (uint64_t i = 0; i < talk_lines; i++) {
    while (__atomic_exchange_n(&talk_lock, 1, __ATOMIC_ACQUIRE)) pause();
    print("processor %u line %u\n", (uint64_t)processor, i);
    __atomic_store_n(&talk_lock, 0, __ATOMIC_RELEASE);
  }
  __atomic_sub_fetch(&talkers, 1, __ATOMIC_SEQ_CST);
}

// Called by start.S on each other processor; `index` counts them as they come.
void ap_main(uint32_t index) {
  (void)index;
  interrupts_start();
  asm volatile("lock incl %0" : "+m"(online));
  for (uint32_t done = 0;;) {
    asm volatile("cli");
    if (done == work_number) {
      asm volatile("sti; hlt");
      continue;
    }
    done = work_number;
    asm volatile("sti");
    work(own_apic_id());
  }
}

unsigned processors_start(void) {
  uint32_t topology[4];
  cpuid(TOPOLOGY_LEAF, CORES, topology);
  if (online < topology[1]) {
    for (size_t i = 0; i < (size_t)(trampoline_end - trampoline); i++) AT(uint8_t, TRAMPOLINE + i) = trampoline[i];
    AT(uint32_t, LAPIC + ICR_LOW) = ALL_OTHERS_INIT;
    AT(uint32_t, LAPIC + ICR_LOW) = ALL_OTHERS_START | TRAMPOLINE >> 12;
    for (unsigned i = 0; i < PATIENCE && online < topology[1]; i++) pause();
  }
  return online;
}

void processors_work(void (*what)(unsigned processor)) {
  work = what;
  work_number++;
  AT(uint32_t, LAPIC + ICR_LOW) = ALL_OTHERS_FIXED | VECTOR_WAKE;
}
