import type { GuestMemory } from "../../memory/guest-memory.ts";
import { ACPI_REGISTERS, ACPI_RESET_VALUE, PORTS, RESET_VECTOR } from "./layout.ts";

/**
 * Writes real-mode code to where a PC's firmware starts (F000:FFF0): it resets the machine by the ACPI reset register.
 * Linux jumps there to reboot a hardware-reduced machine that has no EFI, and does not use the register itself.
 */
export function writeResetVector(memory: GuestMemory): void {
  const port = PORTS.acpi.start + ACPI_REGISTERS.reset;
  const code = [
    ...[0xba, port & 0xff, port >>> 8], // mov dx, port
    ...[0xb0, ACPI_RESET_VALUE], // mov al, value
    0xee, // out dx, al
    0xf4, // hlt
    ...[0xeb, 0xfd], // jmp to the hlt
  ];
  memory.write(RESET_VECTOR, Uint8Array.from(code));
}
