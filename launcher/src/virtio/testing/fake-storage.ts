import type { Gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { IoVector } from "../../storage/io-vector.ts";
import type { IoCompletion, Storage } from "../../storage/storage.ts";
import { TEST_HOST_ADDRESS } from "./split-ring-driver.ts";

/** A disk in an array, for tests: it ends operations at once or when told, and fails when told. */
export class FakeStorage implements Storage {
  readonly bytes: Uint8Array;
  readonly logicalBlockBytes = 512;
  readonly physicalBlockBytes = 4096;
  readonly readOnly: boolean;
  /** What was asked, e.g. "write 512+1024". */
  readonly log: string[] = [];
  /** While true operations wait in `pending`. */
  holds = false;
  errno = 0;
  readonly pending: (() => void)[] = [];
  readonly #memory: GuestMemory;

  constructor(memory: GuestMemory, sizeBytes: number, readOnly = false) {
    this.#memory = memory;
    this.bytes = new Uint8Array(sizeBytes);
    this.readOnly = readOnly;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const ranges = vector.toArray();
    this.#run(`read ${offsetBytes}+${vector.lengthBytes}`, completion, () => {
      let at = offsetBytes;
      for (const { hostAddress, lengthBytes } of ranges) {
        this.#memory.view(guestAddress(hostAddress), lengthBytes).set(this.bytes.subarray(at, at + lengthBytes));
        at += lengthBytes;
      }
    });
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const ranges = vector.toArray();
    this.#run(`write ${offsetBytes}+${vector.lengthBytes}`, completion, () => {
      let at = offsetBytes;
      for (const { hostAddress, lengthBytes } of ranges) {
        this.bytes.set(this.#memory.view(guestAddress(hostAddress), lengthBytes), at);
        at += lengthBytes;
      }
    });
  }

  flush(completion: IoCompletion): void {
    this.#run("flush", completion, () => {});
  }

  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run(`discard ${offsetBytes}+${lengthBytes}`, completion, () => {});
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    this.#run(`zero${mayUnmap ? " unmap" : ""} ${offsetBytes}+${lengthBytes}`, completion, () =>
      this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes),
    );
  }

  async close(): Promise<void> {}

  /** Ends what is pending, the last first. */
  release(): void {
    while (this.pending.length > 0) this.pending.pop()?.();
  }

  #run(what: string, completion: IoCompletion, effect: () => void): void {
    this.log.push(what);
    const end = () => {
      if (this.errno === 0) effect();
      completion.completed(this.errno);
    };
    if (this.holds) this.pending.push(end);
    else end();
  }
}

/** The low region of `testMemory` starts at 0 in both spaces. */
function guestAddress(hostAddress: number): Gpa {
  return (hostAddress - TEST_HOST_ADDRESS) as Gpa;
}
