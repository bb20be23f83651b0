/**
 * Stores `value`, a non-negative safe integer, as words `index` and `index + 1`, the lower first. A typed array cuts what
 * it is given to 32 bits (ECMAScript, ToUint32), at a fraction of what `%` costs for numbers beyond them.
 */
export function setLong(words: Uint32Array | Int32Array, index: number, value: number): void {
  words[index] = value;
  words[index + 1] = value / 2 ** 32;
}
