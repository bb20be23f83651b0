import type * as koffiTypes from "koffi";
import { koffiBinary } from "./native-files.ts";

/** The part of koffi that is used here. */
export type Koffi = Pick<typeof koffiTypes, "load" | "view" | "address" | "errno" | "node">;
export type LibraryHandle = koffiTypes.LibraryHandle;

let loaded: Koffi | undefined;

/**
 * koffi, without its JavaScript wrapper (which costs 20 ms at start); loaded when first asked for.
 * Throws NativeFileMissing.
 */
export function loadKoffi(): Koffi {
  if (loaded === undefined) {
    const module: { exports: unknown } = { exports: {} };
    process.dlopen(module, koffiBinary());
    loaded = module.exports as Koffi;
  }
  return loaded;
}

/** Where the kernel finds the memory of `view`, which the caller keeps alive as long as that is used. */
export function addressOf(view: NodeJS.ArrayBufferView): number {
  return Number(loadKoffi().address(view));
}

/** Memory at `address` as an ArrayBuffer, without a copy. Reading it after it was unmapped ends the process. */
export function viewOf(address: number, sizeBytes: number): ArrayBuffer {
  return loadKoffi().view(address, sizeBytes);
}
