import type { node } from "koffi";
import { loadKoffi } from "./koffi.ts";

export interface FdInterest {
  readonly readable?: boolean;
  readonly writable?: boolean;
}

/** A live watch of a descriptor. It keeps the process running unless `unref` is called. */
export interface FdWatch extends Disposable {
  unref(): void;
  /** Nothing is called until `resume`. */
  pause(): void;
  resume(): void;
}

/** Invariant: holds exactly the live watches; a handle that nobody refers to is collected, and then silent. */
const live = new Set<node.PollHandle>();

function nothing(): void {}

/**
 * Calls `ready` from the event loop, at most once a turn, while `fd` is ready for what is asked: `ready` has to read or
 * write it until it no longer is. Dispose before the descriptor is closed. Does not work for regular files.
 */
export function watchFd(fd: number, interest: FdInterest, ready: () => void): FdWatch {
  const options = { readable: interest.readable ?? false, writable: interest.writable ?? false };
  const called = () => {
    // koffi calls from libuv without what Node does around its own callbacks: promises that `ready` settled would wait
    // for the next timer or socket, and what it throws would be lost.
    setImmediate(nothing);
    try {
      ready();
    } catch (error) {
      setImmediate(() => {
        throw error;
      });
    }
  };
  const handle = loadKoffi().node.poll(fd, options, called);
  live.add(handle);
  return {
    pause: () => handle.stop(),
    resume: () => handle.start(options, called),
    unref: () => handle.unref(),
    [Symbol.dispose]: () => {
      if (!live.delete(handle)) return;
      handle.stop();
      handle.close();
    },
  };
}
