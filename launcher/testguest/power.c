#include "guest.h"

enum { EVENT_POWER_BUTTON = 1, EVENT_PCI_SLOTS = 2 };

static volatile bool is_deaf;

void power_button_ignore(void) { is_deaf = true; }

void power_off(void) {
  print("power off\n");
  out8(PORT_SLEEP, SLEEP_S5);
}

// Reading the events clears them, and with them the level of the pin.
void power_event_interrupt(void) {
  uint8_t events = in8(PORT_EVENTS);
  if (events & EVENT_PCI_SLOTS) pci_slots_changed(!is_deaf);
  if (!(events & EVENT_POWER_BUTTON)) return;
  print("power button%s\n", is_deaf ? ", ignored" : "");
  if (!is_deaf) power_off();
}
