#include "guest.h"

enum { SLOTS = 32, SLOT_BYTES = 1 << 15, CLASS = 8, NOTHING = 0xffff };

void pci_list(void) {
  for (unsigned slot = 0; slot < SLOTS; slot++) {
    uint64_t config = ECAM + slot * SLOT_BYTES;
    uint32_t id = AT(uint32_t, config);
    if ((id & 0xffff) == NOTHING) continue;
    print("pci %u %x:%x class %x\n", (uint64_t)slot, (uint64_t)(id & 0xffff), (uint64_t)(id >> 16),
          (uint64_t)(AT(uint32_t, config + CLASS) >> 8));
  }
  print("pci done\n");
}

// What the machine's AML does; a real system's driver lets go of the device before.
void pci_slots_changed(bool gives_up) {
  uint32_t plugged = in32(PORT_PCI_PLUGGED), unplug = in32(PORT_PCI_UNPLUG);
  if (plugged) print("slots plugged 0x%x\n", (uint64_t)plugged);
  if (!unplug) return;
  print("slots to give up 0x%x%s\n", (uint64_t)unplug, gives_up ? "" : ", ignored");
  if (gives_up) out32(PORT_PCI_EJECT, unplug);
}

uint64_t pci_find(uint16_t vendor, uint16_t device, unsigned index) {
  for (unsigned slot = 0; slot < SLOTS; slot++) {
    uint64_t config = ECAM + slot * SLOT_BYTES;
    if (AT(uint32_t, config) == ((uint32_t)device << 16 | vendor) && index-- == 0) return config;
  }
  return 0;
}
