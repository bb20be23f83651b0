import { type LibraryHandle, loadKoffi } from "../../../../../launcher/src/sys/koffi.ts";
import type { NativeFunction } from "../../../../../launcher/src/sys/libc.ts";

/** Debian's package libnftables1; its interface is stable within this number (libnftables(3)). */
const LIBRARY = "libnftables.so.1";

interface Library {
  readonly create: NativeFunction<[flags: number]>;
  readonly free: NativeFunction<[context: number]>;
  readonly bufferOutput: NativeFunction<[context: number]>;
  readonly bufferError: NativeFunction<[context: number]>;
  readonly run: NativeFunction<[context: number, commands: string]>;
  readonly output: (context: number) => string;
  readonly error: (context: number) => string;
}

let loaded: Library | undefined;

/** The kernel or the library refuses the commands; the message is theirs. */
export class NftablesError extends Error {
  constructor(message: string) {
    super(`nftables: ${message}`);
    this.name = "NftablesError";
  }
}

/**
 * Runs commands as `nft -f` does, all or none, in the network namespace of the calling thread; answers what they print.
 * Throws NftablesError.
 */
export function runNftables(commands: string): string {
  const library = load();
  const context = library.create(0);
  if (context === 0) throw new NftablesError("no socket");
  try {
    library.bufferOutput(context);
    library.bufferError(context);
    const result = library.run(context, commands);
    if (result !== 0) throw new NftablesError(library.error(context).trim());
    return library.output(context);
  } finally {
    // Closing its socket may wait for the kernel to be done with what was replaced.
    library.free.async(context, () => {});
  }
}

/** Loads the library ahead of its first use, which takes some 10 ms. Throws NftablesError. */
export function loadNftables(): void {
  load();
}

function load(): Library {
  if (loaded !== undefined) return loaded;
  const handle = open();
  loaded = {
    create: handle.func("nft_ctx_new", "int64_t", ["uint32_t"]),
    free: handle.func("nft_ctx_free", "void", ["int64_t"]),
    bufferOutput: handle.func("nft_ctx_buffer_output", "int", ["int64_t"]),
    bufferError: handle.func("nft_ctx_buffer_error", "int", ["int64_t"]),
    run: handle.func("nft_run_cmd_from_buffer", "int", ["int64_t", "const char *"]),
    output: handle.func("nft_ctx_get_output_buffer", "const char *", ["int64_t"]),
    error: handle.func("nft_ctx_get_error_buffer", "const char *", ["int64_t"]),
  };
  return loaded;
}

function open(): LibraryHandle {
  try {
    return loadKoffi().load(LIBRARY);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NftablesError(
      `${LIBRARY} cannot be loaded (${reason}); it is part of the operator's image, elsewhere of libnftables1`,
    );
  }
}
