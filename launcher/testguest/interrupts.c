#include "guest.h"

enum { CODE64 = 0x18, INTERRUPT_GATE = 0x8e00, INVALID_OPCODE = 6, EXCEPTIONS = 32, STUB_BYTES = 16 };
enum { LAPIC_ID = 0x20, LAPIC_EOI = 0xb0, LAPIC_SPURIOUS = 0xf0, LAPIC_ENABLE = 0x1ff };
enum { PIC_MASTER_MASK = 0x21, PIC_SLAVE_MASK = 0xa1, ALL_MASKED = 0xff };
enum { IOAPIC_DATA = 0x10, IOAPIC_PIN0 = 0x10, SERIAL_PIN = 4, POWER_PIN = 5, LEVEL_TRIGGERED = 1 << 15 };

struct gate {
  uint16_t offset_low, selector, type, offset_middle;
  uint32_t offset_high, reserved;
};

static struct gate idt[256];
volatile uint64_t interrupt_counts[256];

static void route_pin(unsigned pin, uint32_t entry) {
  AT(uint32_t, IOAPIC) = IOAPIC_PIN0 + 2 * pin + 1;
  AT(uint32_t, IOAPIC + IOAPIC_DATA) = own_apic_id() << 24;
  AT(uint32_t, IOAPIC) = IOAPIC_PIN0 + 2 * pin;
  AT(uint32_t, IOAPIC + IOAPIC_DATA) = entry;
}

static void point_gate(unsigned vector, uintptr_t code) {
  idt[vector] = (struct gate){(uint16_t)code, CODE64, INTERRUPT_GATE, (uint16_t)(code >> 16), 0, 0};
}

static void set_gate(unsigned vector) {
  point_gate(vector, (uintptr_t)interrupt_stubs + vector * STUB_BYTES);
}

// Also for other processors, which share the table.
void interrupts_start(void) {
  struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uintptr_t)idt};
  if (idt[0].type == 0) {
    for (unsigned v = 0; v < EXCEPTIONS; v++) set_gate(v);
    for (unsigned v = 0; v < MESSAGE_VECTORS; v++) set_gate(VECTOR_MESSAGE + v);
    set_gate(VECTOR_SERIAL);
    set_gate(VECTOR_POWER);
    set_gate(VECTOR_WAKE);
    set_gate(VECTOR_TIMER);
    set_gate(0xff);
    // The PICs have all pins open and vectors from 0 on, and the local APIC takes them at LINT0.
    out8(PIC_MASTER_MASK, ALL_MASKED);
    out8(PIC_SLAVE_MASK, ALL_MASKED);
    route_pin(SERIAL_PIN, VECTOR_SERIAL);
    route_pin(POWER_PIN, VECTOR_POWER | LEVEL_TRIGGERED);
  }
  asm volatile("lidt %0" ::"m"(pointer));
  AT(uint32_t, LAPIC + LAPIC_SPURIOUS) = LAPIC_ENABLE;
  asm volatile("sti");
}

void run_unprivileged(void (*function)(void)) {
  point_gate(INVALID_OPCODE, (uintptr_t)end_unprivileged);
  enter_unprivileged(function);
  set_gate(INVALID_OPCODE);
}

uint32_t own_apic_id(void) { return AT(uint32_t, LAPIC + LAPIC_ID) >> 24; }

// Called by the stubs of start.S.
void interrupt(uint64_t vector, uint64_t error, uint64_t rip) {
  if (vector < EXCEPTIONS) {
    print("EXCEPTION %u error 0x%x at 0x%x\n", vector, error, rip);
    for (;;) asm volatile("cli; hlt");
  }
  interrupt_counts[vector]++;
  if (vector == VECTOR_SERIAL) console_interrupt();
  if (vector == VECTOR_POWER) power_event_interrupt();
  if (vector == VECTOR_TIMER) timer_interrupt();
  AT(uint32_t, LAPIC + LAPIC_EOI) = 0;
}

// An interrupt between the look and the halt is not lost: sti takes effect after the instruction that follows it.
void wait_for_interrupt_unless(bool (*ready)(void)) {
  asm volatile("cli" ::: "memory");
  if (ready()) asm volatile("sti" ::: "memory");
  else asm volatile("sti; hlt" ::: "memory");
}
