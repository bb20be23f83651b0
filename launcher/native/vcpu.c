// One thread for life for each vCPU: it runs KVM_RUN and tells the event loop of each exit. It decides nothing.
// One thread for life, since kernels before 6.13 wait for an RCU grace period when KVM_RUN changes threads.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RUNNING = 0, EXITED = 1 };
enum { SPIN_NS = 10000, STACK_BYTES = 64 * 1024, TRIP_BOUNDS = 6 };

// Shared with launcher/src/sys/vcpu-thread.ts, which writes the offsets down again.
struct vcpu {
  _Atomic uint32_t state;     // EXITED -> RUNNING: the event loop; RUNNING -> EXITED: the thread
  _Atomic uint32_t sleeping;  // the thread needs a futex wake to see a new state
  _Atomic uint32_t stop;      // the thread ends when it is next out of the guest
  int32_t error;              // errno of KVM_RUN; 0: the exit is described in kvm_run
  int32_t fd, exit_fd;        // vCPU; eventfd that each exit signals
  struct kvm_run *run;
  int64_t exited_ns;           // when the guest was last left
  _Atomic uint32_t uncounted;  // the event loop lets the thread in, and answers no exit by it
  // Round trips: from an exit until the guest is entered again. Written by the thread alone.
  _Atomic int64_t trips_ns, trips[TRIP_BOUNDS + 1];
  pthread_t thread;
};
_Static_assert(offsetof(struct vcpu, error) == 12 && offsetof(struct vcpu, fd) == 16, "layout");
_Static_assert(offsetof(struct vcpu, exit_fd) == 20 && offsetof(struct vcpu, run) == 24, "layout");
_Static_assert(offsetof(struct vcpu, uncounted) == 40 && offsetof(struct vcpu, trips_ns) == 48, "layout");
_Static_assert(offsetof(struct vcpu, trips) == 56, "layout");

static const int64_t trip_bounds_ns[TRIP_BOUNDS] = {10000, 30000, 100000, 1000000, 10000000, 100000000};

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// The answer to an exit mostly comes soon, and waking a sleeper costs more than spinning that long.
static void wait_until_running(struct vcpu *v) {
  int64_t deadline = now_ns() + SPIN_NS;
  do {
    for (int i = 0; i < 32; i++) {
      if (v->state == RUNNING || v->stop) return;
      __builtin_ia32_pause();
    }
  } while (now_ns() < deadline);
  v->sleeping = 1;
  while (v->state == EXITED && !v->stop) syscall(SYS_futex, &v->state, FUTEX_WAIT_PRIVATE, EXITED, NULL, NULL, 0);
  v->sleeping = 0;
}

static void add(_Atomic int64_t *sum, int64_t value) {
  atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + value, memory_order_relaxed);
}

static void count_round_trip(struct vcpu *v) {
  if (v->uncounted) {
    v->uncounted = 0;
    return;
  }
  int64_t took_ns = now_ns() - v->exited_ns;
  int bucket = 0;
  while (bucket < TRIP_BOUNDS && took_ns > trip_bounds_ns[bucket]) bucket++;
  add(&v->trips_ns, took_ns);
  add(&v->trips[bucket], 1);
}

static void *thread_main(void *argument) {
  struct vcpu *v = argument;
  const uint64_t one = 1;
  prctl(PR_SET_NAME, "vcpu");  // by which launcher/src/control/thread-metrics.ts finds it
  for (;;) {
    wait_until_running(v);
    if (v->stop) return NULL;
    count_round_trip(v);
    int result;
    // EAGAIN: a processor that waits for its start-up IPI was woken. EINTR without a kick: a late signal of an old one.
    do result = ioctl(v->fd, KVM_RUN, 0);
    while (result < 0 && (errno == EAGAIN || (errno == EINTR && !*(volatile uint8_t *)&v->run->immediate_exit)));
    v->error = result < 0 ? errno : 0;
    v->exited_ns = now_ns();
    v->state = EXITED;
    (void)!write(v->exit_fd, &one, sizeof one);
  }
}

static int kick_signal(void) { return SIGRTMIN + 3; }
static void no_operation(int signal) { (void)signal; }

// Starts the thread of `v`, whose state is EXITED: it enters the guest at the first vcpu_wake. Answers an errno.
int vcpu_start(struct vcpu *v) {
  struct sigaction action = {.sa_handler = no_operation};  // no SA_RESTART: the signal is to interrupt KVM_RUN
  sigset_t all_but_kick, old;
  pthread_attr_t attributes;
  if (sigaction(kick_signal(), &action, NULL) < 0) return errno;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all_but_kick);
  sigdelset(&all_but_kick, kick_signal());
  pthread_sigmask(SIG_SETMASK, &all_but_kick, &old);
  int error = pthread_create(&v->thread, &attributes, thread_main, v);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

// After the event loop stored RUNNING and saw `sleeping`.
void vcpu_wake(struct vcpu *v) { syscall(SYS_futex, &v->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

// Gets the thread out of the guest, or keeps it from entering: KVM samples immediate_exit only on the way in.
void vcpu_kick(struct vcpu *v) {
  *(volatile uint8_t *)&v->run->immediate_exit = 1;
  pthread_kill(v->thread, kick_signal());
}

// Ends the thread and waits for it.
void vcpu_join(struct vcpu *v) {
  v->stop = 1;
  v->state = RUNNING;  // else a thread on its way to sleep would miss the wake
  vcpu_kick(v);
  vcpu_wake(v);
  pthread_join(v->thread, NULL);
}
