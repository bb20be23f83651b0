import { Mapping } from "../sys/mapping.ts";
import { constants, exitReasons, structs } from "./layouts.ts";
import { getU64, hexU64 } from "./struct-view.ts";

const { at } = structs.kvm_run;

/** Words of suberror data that KVM_EXIT_INTERNAL_ERROR and KVM_EXIT_SYSTEM_EVENT have room for. */
const INTERNAL_DATA_WORDS = 16;
const MMIO_DATA_BYTES = 8;
const PAGE_BYTES = 4096;

/**
 * The `kvm_run` of one vCPU, shared with the kernel. Only looked at while the vCPU is out of the guest, and its union
 * only as `exitReason` says.
 */
export class RunPage implements Disposable {
  readonly #mapping: Mapping;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  /** Views of mmio.data, by the length of the access: none is made while the guest runs. */
  readonly #mmioData: readonly Uint8Array[];

  constructor(vcpuFd: number, sizeBytes: number) {
    this.#mapping = Mapping.shared(vcpuFd, sizeBytes);
    this.#view = new DataView(this.#mapping.buffer);
    this.#bytes = new Uint8Array(this.#mapping.buffer);
    this.#mmioData = Array.from({ length: MMIO_DATA_BYTES + 1 }, (_, length) =>
      this.#bytes.subarray(at["mmio.data"], at["mmio.data"] + length),
    );
  }

  get hostAddress(): number {
    return this.#mapping.hostAddress;
  }

  /** A page of the mapping behind the first, such as the ring of coalesced writes. */
  page(index: number): Uint8Array {
    return this.#bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
  }

  get exitReason(): number {
    return this.#view.getUint32(at.exit_reason, true);
  }

  /** KVM_RUN returns at once with EINTR while this is set, after it has finished what the last exit left undone. */
  set immediateExit(value: boolean) {
    this.#bytes[at.immediate_exit] = value ? 1 : 0;
  }

  // KVM_EXIT_IO, field by field: an object an exit would be garbage.

  get ioIsWrite(): boolean {
    return this.#bytes[at["io.direction"]] === constants.KVM_EXIT_IO_OUT;
  }

  get ioPort(): number {
    return this.#view.getUint16(at["io.port"], true);
  }

  /** 1, 2 or 4. */
  get ioWidthBytes(): number {
    return this.#bytes[at["io.size"]] ?? 0;
  }

  get ioCount(): number {
    return this.#view.getUint32(at["io.count"], true);
  }

  /** Element `index` of the access. */
  ioData(index: number): Uint8Array {
    const width = this.ioWidthBytes;
    const start = getU64(this.#view, at["io.data_offset"]) + index * width;
    return this.#bytes.subarray(start, start + width);
  }

  // KVM_EXIT_MMIO

  get mmioIsWrite(): boolean {
    return this.#bytes[at["mmio.is_write"]] !== 0;
  }

  get mmioAddress(): number {
    return getU64(this.#view, at["mmio.phys_addr"]);
  }

  /** 1 to 8 bytes. */
  mmioData(): Uint8Array {
    const length = this.#view.getUint32(at["mmio.len"], true);
    return this.#mmioData[Math.min(length, MMIO_DATA_BYTES)] ?? this.#bytes.subarray(0, 0);
  }

  /** KVM_EXIT_SYSTEM_EVENT */
  get systemEventType(): number {
    return this.#view.getUint32(at["system_event.type"], true);
  }

  /** What an exit that ends the machine says, for people. */
  describeFailure(): string {
    switch (this.exitReason) {
      case exitReasons.KVM_EXIT_FAIL_ENTRY: {
        const reason = hexU64(this.#view, at["fail_entry.hardware_entry_failure_reason"]);
        return `the processor refused to enter the guest (hardware reason ${reason})`;
      }
      case exitReasons.KVM_EXIT_INTERNAL_ERROR:
        return `KVM gave up on the guest (${this.#internalError()})`;
      case exitReasons.KVM_EXIT_UNKNOWN:
        return `the processor left the guest for an unknown reason (${hexU64(this.#view, at["hw.hardware_exit_reason"])})`;
      default:
        return `KVM left the guest with exit reason ${this.exitReason}, which is not expected`;
    }
  }

  #internalError(): string {
    const suberror = this.#view.getUint32(at["internal.suberror"], true);
    const words = Math.min(this.#view.getUint32(at["internal.ndata"], true), INTERNAL_DATA_WORDS);
    const data = Array.from({ length: words }, (_, i) => hexU64(this.#view, at["internal.data"] + i * 8));
    const meaning =
      suberror === constants.KVM_INTERNAL_ERROR_EMULATION ? ", an instruction that it cannot emulate" : "";
    return `internal error ${suberror}${meaning}${data.length > 0 ? `; data ${data.join(" ")}` : ""}`;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
