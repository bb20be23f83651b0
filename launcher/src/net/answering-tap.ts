import type { OwnedFd } from "../sys/fd.ts";
import { type FdWatch, watchFd } from "../sys/fd-watch.ts";
import { readPacket, writePacket } from "../sys/frame-io.ts";

/** The longest frame that is answered. */
const FRAME_BYTES_MAX = 1514;
/** A guest that floods waits for the next turn of the event loop. */
const TURN_FRAMES = 16;

/**
 * Serves a guest whose frames go by vhost-net: what is for the launcher comes out of a TAP of its own, without header, and
 * what is written there goes to the guest.
 */
export class AnsweringTap implements Disposable {
  readonly #fd: OwnedFd;
  readonly #watch: FdWatch;
  readonly #frame = new Uint8Array(new ArrayBuffer(FRAME_BYTES_MAX + 1));
  readonly #answer: (frame: Uint8Array) => Uint8Array | null;

  /** `fd` is this object's from now on. `answer` gets frames that are only valid during the call. */
  constructor(fd: OwnedFd, answer: (frame: Uint8Array) => Uint8Array | null) {
    this.#fd = fd;
    this.#answer = answer;
    this.#watch = watchFd(fd.fd, { readable: true }, () => this.#read());
    this.#watch.unref();
  }

  /** A frame that finds no room is lost, as on any network. */
  send(frame: Uint8Array): void {
    writePacket(this.#fd.fd, frame);
  }

  #read(): void {
    for (let i = 0; i < TURN_FRAMES; i++) {
      const lengthBytes = readPacket(this.#fd.fd, this.#frame);
      if (lengthBytes < 0) return;
      // One that was cut is none of ours.
      const answer = lengthBytes <= FRAME_BYTES_MAX ? this.#answer(this.#frame.subarray(0, lengthBytes)) : null;
      if (answer) this.send(answer);
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }
}
