/** Bytes one after another. */
export type Chunks = AsyncIterable<Uint8Array>;

/** Gives the memory of a chunk back that nobody looks at any more: the garbage collector would come late. */
export function release(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk;
  if (byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** The first bytes of a stream, and the whole of it again. */
export async function peek(
  chunks: Chunks,
  wantedBytes: number,
): Promise<{ readonly start: Uint8Array; readonly all: AsyncGenerator<Uint8Array> }> {
  const iterator = chunks[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let heldBytes = 0;
  let ended = false;
  while (heldBytes < wantedBytes && !ended) {
    const { done, value } = await iterator.next();
    if (done === true) ended = true;
    else {
      held.push(value);
      heldBytes += value.length;
    }
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    try {
      yield* held.splice(0);
      while (!ended) {
        const { done, value } = await iterator.next();
        if (done === true) return;
        yield value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  return { start: Buffer.concat(held).subarray(0, wantedBytes), all: all() };
}
