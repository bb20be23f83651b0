/** Guest-physical address in bytes: a Number, proven below 2^53 by whoever makes it. */
export type Gpa = number & { readonly __gpa: never };

/** Guest-physical addresses beyond this are never valid here (x86-64: at most 52 bits). */
export const GPA_LIMIT = 2 ** 52;

/** Two 32-bit halves as the guest gives them, or null when the address is beyond GPA_LIMIT. */
export function gpaFromHalves(low: number, high: number): Gpa | null {
  const high32 = high >>> 0;
  return high32 < GPA_LIMIT / 2 ** 32 ? ((high32 * 2 ** 32 + (low >>> 0)) as Gpa) : null;
}

/** An address from our own code. Throws RangeError where it is not a safe one. */
export function gpa(address: number): Gpa {
  if (!Number.isInteger(address) || address < 0 || address >= GPA_LIMIT)
    throw new RangeError(`not a guest-physical address: ${address}`);
  return address as Gpa;
}
