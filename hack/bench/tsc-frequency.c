// Prints how many ticks the time stamp counter makes in a second.
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
  const int64_t start_ns = now_ns();
  const uint64_t start = __rdtsc();
  while (now_ns() < start_ns + 500000000)
    ;
  const uint64_t ticks = __rdtsc() - start;
  printf("%.0f\n", (double)ticks * 1e9 / (double)(now_ns() - start_ns));
}
