#include "guest.h"
#include <stdarg.h>

enum { DATA = PORT_SERIAL, INTERRUPT_ENABLE, FIFO_CONTROL, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS };
enum { RECEIVED = 1, FIFO_ENABLE = 1, DTR_RTS_OUT2 = 0x0b, EIGHT_BITS = 3, DATA_READY = 1, HOLDING_EMPTY = 0x20 };
enum { INTERRUPT_ID = FIFO_CONTROL, INTERRUPT_CAUSE = 0x0f, TRANSMITTER_EMPTY = 2, FIFO_BYTES = 16 };

static char input[1024];
static volatile size_t input_head, input_tail;

static bool polls;

// As Linux prints before anyone has opened the port: it asks for room before each character.
void console_poll(bool whether) { polls = whether; }

static void put(char c) {
  while (polls && !(in8(LINE_STATUS) & HOLDING_EMPTY)) pause();
  out8(DATA, (uint8_t)c);
}

static void put_number(uint64_t value, unsigned base) {
  char digits[20];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  while (n) put(digits[--n]);
}

void print(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format; format++) {
    if (*format != '%') {
      if (*format == '\n') put('\r');
      put(*format);
      continue;
    }
    switch (*++format) {
      case 's':
        for (const char *s = va_arg(arguments, const char *); *s; s++) put(*s);
        break;
      case 'c':
        put((char)va_arg(arguments, int));
        break;
      case 'u':
        put_number(va_arg(arguments, uint64_t), 10);
        break;
      case 'x':
        put_number(va_arg(arguments, uint64_t), 16);
        break;
    }
  }
  va_end(arguments);
}

void console_start(void) {
  out8(LINE_CONTROL, EIGHT_BITS);
  out8(FIFO_CONTROL, FIFO_ENABLE);
  out8(MODEM_CONTROL, DTR_RTS_OUT2);
  out8(INTERRUPT_ENABLE, RECEIVED);
}

static const char *volatile unsent;
static volatile size_t unsent_count;

static bool all_is_sent(void) { return unsent_count == 0; }

static void send_fifo(void) {
  for (unsigned i = 0; i < FIFO_BYTES && unsent_count; i++, unsent_count--) put(*unsent++);
  if (!unsent_count) out8(INTERRUPT_ENABLE, RECEIVED);
}

// Sends by interrupts: each brings a FIFO full, and nothing else is asked of the port until the next.
void console_send(const char *text, size_t count) {
  unsent = text;
  unsent_count = count;
  out8(INTERRUPT_ENABLE, RECEIVED | TRANSMITTER_EMPTY);
  while (!all_is_sent()) wait_for_interrupt_unless(all_is_sent);
}

void console_interrupt(void) {
  if (unsent_count && (in8(INTERRUPT_ID) & INTERRUPT_CAUSE) == TRANSMITTER_EMPTY) {
    send_fifo();
    return;
  }
  while (in8(LINE_STATUS) & DATA_READY) {
    char c = (char)in8(DATA);
    size_t next = (input_tail + 1) % sizeof input;
    if (next == input_head) continue;  // more than anyone reads is lost, as on a real line
    input[input_tail] = c;
    input_tail = next;
  }
}

// Empty lines are none: a terminal ends lines with \r, \n or both.
bool console_read_line(char *line, size_t size) {
  static size_t length;
  while (input_head != input_tail) {
    char c = input[input_head];
    input_head = (input_head + 1) % sizeof input;
    if (c != '\r' && c != '\n') {
      if (length < size - 1) line[length++] = c;
    } else if (length) {
      line[length] = 0;
      length = 0;
      return true;
    }
  }
  return false;
}
