import { join } from "node:path";
import type { HistogramReport } from "../measure/histogram.ts";
import { SysError } from "./errors.ts";
import { loadKoffi } from "./koffi.ts";
import { Mapping } from "./mapping.ts";
import { nativeFile } from "./native-files.ts";
import { setLong } from "./words.ts";

/** `struct vcpu` of launcher/native/vcpu.c, in 32-bit words. */
const STATE = 0;
const SLEEPING = 1;
const ERROR = 3;
const FD = 4;
const EXIT_FD = 5;
const RUN = 6;
const UNCOUNTED = 10;
/** In 64-bit words. */
const TRIPS_NS = 6;
const TRIPS = 7;

/** `trip_bounds_ns` of vcpu.c, in seconds. */
const TRIP_BOUNDS_SECONDS = [0.00001, 0.00003, 0.0001, 0.001, 0.01, 0.1] as const;

const RUNNING = 0;
const EXITED = 1;

interface VcpuLibrary {
  vcpu_start(vcpu: number): number;
  vcpu_wake(vcpu: number): void;
  vcpu_kick(vcpu: number): void;
  vcpu_join(vcpu: number): void;
}

let library: VcpuLibrary | undefined;

function vcpuLibrary(): VcpuLibrary {
  if (library === undefined) {
    const path = nativeFile("vcpu.so", () => join(import.meta.dirname, "../../../dist/launcher/vcpu.so"));
    const loaded = loadKoffi().load(path);
    const bind = (name: string, result: string) => loaded.func(name, result, ["int64_t"]);
    library = {
      vcpu_start: bind("vcpu_start", "int"),
      vcpu_wake: bind("vcpu_wake", "void"),
      vcpu_kick: bind("vcpu_kick", "void"),
      vcpu_join: bind("vcpu_join", "void"),
    } as VcpuLibrary;
  }
  return library;
}

/**
 * The thread that runs one vCPU. It is either in the guest, or has exited and waits for `resume`; it starts as exited.
 * While it is in the guest, nobody else uses the vCPU or its kvm_run page.
 */
export class VcpuThread implements Disposable {
  readonly #library = vcpuLibrary();
  readonly #memory = Mapping.anonymous(4096);
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;
  readonly #address: number;
  /** Invariant: null until the thread is joined, when its memory goes. */
  #finalTrips: HistogramReport | null = null;

  /**
   * `exitFd` is an eventfd, signalled after each exit; `runAddress` is where kvm_run is mapped.
   * All three stay open until the thread is disposed. Throws SysError.
   */
  constructor(vcpuFd: number, exitFd: number, runAddress: number) {
    this.#words = new Int32Array(this.#memory.buffer);
    this.#longs = new BigInt64Array(this.#memory.buffer);
    this.#address = this.#memory.hostAddress;
    this.#words[STATE] = EXITED;
    this.#words[FD] = vcpuFd;
    this.#words[EXIT_FD] = exitFd;
    setLong(this.#words, RUN, runAddress);
    const errno = this.#library.vcpu_start(this.#address);
    if (errno !== 0) {
      this.#memory[Symbol.dispose]();
      throw new SysError("pthread_create", errno, "vCPU thread");
    }
  }

  /** True while the thread waits for `resume`. */
  get hasExited(): boolean {
    return Atomics.load(this.#words, STATE) === EXITED;
  }

  /** errno of KVM_RUN at the last exit; 0 when kvm_run describes it. EINTR after a kick. */
  get errno(): number {
    return this.#words[ERROR] ?? 0;
  }

  /** Seconds from exits of the guest until it was entered again with their answers. */
  get roundTrips(): HistogramReport {
    return this.#finalTrips ?? this.#readTrips();
  }

  /** Into the guest where that answers no exit: at first, or after a pause. Only when it has exited. */
  enter(): void {
    this.#words[UNCOUNTED] = 1;
    this.resume();
  }

  /** Into the guest with the answer to its exit; only when it has exited. The wake is only paid for when the thread sleeps by now. */
  resume(): void {
    Atomics.store(this.#words, STATE, RUNNING);
    if (Atomics.load(this.#words, SLEEPING) !== 0) this.#library.vcpu_wake(this.#address);
  }

  /** Sets `immediate_exit` in kvm_run, which the caller clears, and interrupts the guest: an exit follows soon. */
  kick(): void {
    this.#library.vcpu_kick(this.#address);
  }

  /** Gets the thread out of the guest and waits for its end. */
  [Symbol.dispose](): void {
    if (this.#finalTrips !== null) return;
    this.#library.vcpu_join(this.#address);
    this.#finalTrips = this.#readTrips();
    this.#memory[Symbol.dispose]();
  }

  #readTrips(): HistogramReport {
    const at = (index: number) => Number(Atomics.load(this.#longs, index));
    const counts = Array.from({ length: TRIP_BOUNDS_SECONDS.length + 1 }, (_, bucket) => at(TRIPS + bucket));
    return { bounds: TRIP_BOUNDS_SECONDS, counts, sum: at(TRIPS_NS) / 1e9 };
  }
}
