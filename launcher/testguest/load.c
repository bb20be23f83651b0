// A load that notices what a pause, a suspension or a migration must not do: change memory, turn back time, lose an
// interrupt or a write to the disk.
#include "guest.h"

enum { LAPIC_TIMER = 0x320, LAPIC_TIMER_COUNT = 0x380, LAPIC_TIMER_DIVIDE = 0x3e0 };
enum { ONE_SHOT = 0 << 17, DEADLINE = 2 << 17, DIVIDE_BY_1 = 0xb };
enum { MSR_TSC_DEADLINE = 0x6e0 };
enum { PAGE = 4096, WORDS_OF_PAGE = 8 };

#define ticks AT(uint64_t, TIMER_TICKS)
static uint64_t timer_ticks;
static bool by_deadline;

// One shot at a time, set again by its interrupt: if one is lost, none follows.
static void timer_set(void) {
  if (by_deadline) write_msr(MSR_TSC_DEADLINE, time_stamp() + timer_ticks);
  else AT(uint32_t, LAPIC + LAPIC_TIMER_COUNT) = (uint32_t)timer_ticks;
}

void timer_start(uint64_t period, bool deadline) {
  by_deadline = deadline;
  timer_ticks = period;
  ticks = 0;
  AT(uint32_t, LAPIC + LAPIC_TIMER) = VECTOR_TIMER | (deadline ? DEADLINE : ONE_SHOT);
  AT(uint32_t, LAPIC + LAPIC_TIMER_DIVIDE) = DIVIDE_BY_1;
  timer_set();
}

void timer_interrupt(void) {
  ticks++;
  timer_set();
}

static uint64_t pattern(uint64_t round, uint64_t page, uint64_t word) {
  return (round << 40) ^ (page << 8) ^ word ^ 0x5a5a000000000000ul;
}

static void page_fill(uint64_t address, uint64_t round, uint64_t page) {
  for (uint64_t word = 0; word < WORDS_OF_PAGE; word++)
    AT(uint64_t, address + page * PAGE + word * (PAGE / WORDS_OF_PAGE)) = pattern(round, page, word);
}

static bool page_holds(uint64_t address, uint64_t round, uint64_t page) {
  for (uint64_t word = 0; word < WORDS_OF_PAGE; word++)
    if (AT(uint64_t, address + page * PAGE + word * (PAGE / WORDS_OF_PAGE)) != pattern(round, page, word)) return false;
  return true;
}

// Writes `pages` pages again and again, each after a look at what the round before left there, until a line is typed.
void load_run(uint64_t address, uint64_t pages) {
  char line[16];
  uint64_t errors = 0, backward = 0, longest = 0, last = time_stamp(), round = 0;
  for (uint64_t page = 0; page < pages; page++) page_fill(address, 0, page);
  print("load runs\n");
  uint64_t ticks_before = ticks;
  while (!console_read_line(line, sizeof line)) {
    for (uint64_t page = 0; page < pages; page++) {
      if (!page_holds(address, round, page)) errors++;
      page_fill(address, round + 1, page);
      uint64_t now = time_stamp();
      if (now < last) backward++;
      else if (now - last > longest) longest = now - last;
      last = now;
    }
    round++;
  }
  for (uint64_t page = 0; page < pages; page++)
    if (!page_holds(address, round, page)) errors++;
  print("load rounds %u errors %u backward %u longest %u ticks %u\n", round, errors, backward, longest, ticks - ticks_before);
}

static struct {
  uint64_t address, pages, count, period, rounds, written, errors;
} paced;

static void run_paced(void) {
  char line[16];
  for (uint64_t page = 0, due = time_stamp(); !console_read_line(line, sizeof line);) {
    uint64_t now = time_stamp();
    if (now < due) {
      pause();
      continue;
    }
    // What a pause took is not made up for.
    due = now + paced.period;
    for (uint64_t i = 0; i < paced.count; i++) {
      if (!page_holds(paced.address, paced.rounds, page)) paced.errors++;
      page_fill(paced.address, paced.rounds + 1, page);
      paced.written++;
      if (++page < paced.pages) continue;
      page = 0;
      paced.rounds++;
    }
  }
}

// As load_run, but `count` pages in each `period` of time stamps, and at CPL 3: a guest that changes its memory at a known
// rate, also where its kernel is emulated.
void load_run_paced(uint64_t address, uint64_t pages, uint64_t count, uint64_t period) {
  paced.address = address;
  paced.pages = pages;
  paced.count = count;
  paced.period = period;
  paced.rounds = paced.written = paced.errors = 0;
  for (uint64_t page = 0; page < pages; page++) page_fill(address, 0, page);
  print("pace runs\n");
  run_unprivileged(run_paced);
  print("pace rounds %u written %u errors %u\n", paced.rounds, paced.written, paced.errors);
}

uint64_t timer_count(void) { return ticks; }

// At CPL 3, which is quick also where the guest's kernel is emulated.
static struct {
  uint64_t address, pages, seed, errors;
} whole;

static void fill_whole(void) {
  for (uint64_t page = 0; page < whole.pages; page++) page_fill(whole.address, whole.seed, page);
}

static void check_whole(void) {
  for (uint64_t page = 0; page < whole.pages; page++)
    if (!page_holds(whole.address, whole.seed, page)) whole.errors++;
}

static uint64_t work_on_whole(uint64_t address, uint64_t pages, uint64_t seed, void (*work)(void)) {
  whole.address = address;
  whole.pages = pages;
  whole.seed = seed;
  whole.errors = 0;
  run_unprivileged(work);
  return whole.errors;
}

void memory_fill(uint64_t address, uint64_t pages, uint64_t seed) { work_on_whole(address, pages, seed, fill_whole); }

uint64_t memory_errors(uint64_t address, uint64_t pages, uint64_t seed) {
  return work_on_whole(address, pages, seed, check_whole);
}
