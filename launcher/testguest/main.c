// The test guest: a kernel that is up within milliseconds even where its instructions are emulated, and does what
// lines on the serial console tell it. What follows " -- " on the kernel command line is run first, split at ";".
#include "guest.h"

enum { START_INFO_COMMAND_LINE = 24, ZERO_PAGE_COMMAND_LINE = 0x228 };

static char line[1024];

static void run_commands_of(const char *command_line) {
  while (*command_line && !(command_line[0] == '-' && command_line[1] == '-' && command_line[2] == ' ')) command_line++;
  if (*command_line) command_line += 3;
  while (*command_line) {
    size_t length = 0;
    while (*command_line == ' ') command_line++;
    while (*command_line && *command_line != ';') {
      if (length < sizeof line - 1) line[length++] = *command_line;
      command_line++;
    }
    if (*command_line) command_line++;
    line[length] = 0;
    if (length) run_command(line);
  }
}

static bool have_line;
static bool line_is_ready(void) { return have_line = console_read_line(line, sizeof line); }

// Called by start.S.
void guest_main(uint64_t boot_information, uint64_t is_pvh) {
  const char *command_line =
      is_pvh ? (const char *)AT(uint64_t, boot_information + START_INFO_COMMAND_LINE)
             : (const char *)(uintptr_t)AT(uint32_t, boot_information + ZERO_PAGE_COMMAND_LINE);
  interrupts_start();
  console_start();
  print("TYPEVISOR TESTGUEST READY %s\n", is_pvh ? "pvh" : "linux64");
  run_commands_of(command_line);
  for (;;) {
    wait_for_interrupt_unless(line_is_ready);
    if (have_line) run_command(line);
    have_line = false;
  }
}
