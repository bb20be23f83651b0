/** Sets bits `first` to `last`, whole words at a time. */
export function setBits(words: Uint32Array, first: number, last: number): void {
  const [firstWord, lastWord] = [first >>> 5, last >>> 5];
  const fromFirst = ~0 << (first & 31);
  const upToLast = ~0 >>> (31 - (last & 31));
  if (firstWord === lastWord) {
    words[firstWord] = (words[firstWord] ?? 0) | (fromFirst & upToLast);
    return;
  }
  words[firstWord] = (words[firstWord] ?? 0) | fromFirst;
  words.fill(0xffffffff, firstWord + 1, lastWord);
  words[lastWord] = (words[lastWord] ?? 0) | upToLast;
}

export function countBits(words: Uint32Array): number {
  let count = 0;
  for (let word of words) {
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    count += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}
