import { constants, inflateRaw, zstdDecompress } from "node:zlib";
import type { CompressionType } from "./header.ts";
import { zstdFrameBytes } from "./zstd-frame.ts";

/** So that one call gives a whole cluster, and it shows when there is more. */
const SLACK_BYTES = 64;
/** Of zstd's window: what every decoder should take (RFC 8878, section 3.1.1.1.2), and a bound of its memory. */
const ZSTD_WINDOW_LOG = 23;

/**
 * Decompresses what `compressed` begins with, on libuv's pool. `use` gets exactly `clusterBytes`, which are gone when it
 * returns, or null where they are damaged: `compressed` may be in use for a while then. Memory stays within a cluster
 * and the decompressor's window, whatever the bytes ask for.
 */
export function decompressCluster(
  type: CompressionType,
  compressed: Uint8Array,
  clusterBytes: number,
  use: (cluster: Uint8Array | null) => void,
): void {
  const limits = { maxOutputLength: clusterBytes, chunkSize: clusterBytes + SLACK_BYTES };
  const finish = (error: Error | null, output: Buffer<ArrayBuffer>) => {
    if (error !== null || output.length !== clusterBytes) {
      use(null);
      return;
    }
    use(output);
    // At thousands of clusters a second, the garbage collector would come late. Small ones share memory with others.
    if (output.buffer.byteLength === limits.chunkSize) output.buffer.transfer(0);
  };
  if (type === "zlib") {
    // Raw deflate. What follows the stream is ignored, and the last sector may be cut off where the stream ended before.
    inflateRaw(compressed, { ...limits, finishFlush: constants.Z_SYNC_FLUSH }, finish);
    return;
  }
  const frameBytes = zstdFrameBytes(compressed);
  if (frameBytes < 0) use(null);
  else {
    const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG };
    zstdDecompress(compressed.subarray(0, frameBytes), { ...limits, params }, finish);
  }
}
