/**
 * ACPI Machine Language (ACPI 6.5, chapter 20): each function gives the bytes of one term, and terms nest by being
 * arguments. Only what our tables use.
 */

export type Aml = Uint8Array;

export function concat(...parts: readonly Aml[]): Aml {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const bytes = (...values: number[]): Aml => Uint8Array.from(values);

function littleEndian(value: number | bigint, sizeBytes: number): Aml {
  const result = new Uint8Array(sizeBytes);
  let rest = BigInt(value);
  for (let i = 0; i < sizeBytes; i++, rest >>= 8n) result[i] = Number(rest & 0xffn);
  return result;
}

const ascii = (text: string): Aml => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** One segment: a letter or underscore, then up to three of those or digits; padded with underscores. */
function nameSegment(name: string): Aml {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) throw new RangeError(`not an ACPI name: ${name}`);
  return ascii(name.padEnd(4, "_"));
}

/** A name such as `\_SB.PCI0` or `COM1` (20.2.2). */
export function path(name: string): Aml {
  const root = name.startsWith("\\");
  const segments = name
    .slice(root ? 1 : 0)
    .split(".")
    .map(nameSegment);
  const prefix = segments.length === 1 ? [] : segments.length === 2 ? [0x2e] : [0x2f, segments.length];
  return concat(ascii(root ? "\\" : ""), bytes(...prefix), ...segments);
}

/** Length of what follows, including its own 1 to 4 bytes (20.2.4). */
function packageLength(contentBytes: number): Aml {
  if (contentBytes + 1 < 0x40) return bytes(contentBytes + 1);
  for (const extraBytes of [1, 2, 3]) {
    const length = contentBytes + 1 + extraBytes;
    if (length < 2 ** (4 + 8 * extraBytes))
      return concat(bytes((extraBytes << 6) | (length & 0xf)), littleEndian(length >>> 4, extraBytes));
  }
  throw new RangeError(`ACPI term of ${contentBytes} bytes`);
}

function packaged(opcode: readonly number[], ...content: readonly Aml[]): Aml {
  const body = concat(...content);
  return concat(bytes(...opcode), packageLength(body.length), body);
}

/** An integer in the shortest form (20.2.3). Not negative. */
export function integer(value: number | bigint): Aml {
  const wide = BigInt(value);
  if (wide < 0n || wide >= 2n ** 64n) throw new RangeError(`not an ACPI integer: ${value}`);
  if (wide < 2n) return bytes(Number(wide));
  if (wide < 2n ** 8n) return concat(bytes(0x0a), littleEndian(wide, 1));
  if (wide < 2n ** 16n) return concat(bytes(0x0b), littleEndian(wide, 2));
  if (wide < 2n ** 32n) return concat(bytes(0x0c), littleEndian(wide, 4));
  return concat(bytes(0x0e), littleEndian(wide, 8));
}

export function string(text: string): Aml {
  return concat(bytes(0x0d), ascii(text), bytes(0));
}

/** A PNP identifier such as "PNP0A08", in its compressed form (19.3.4). */
export function eisaId(id: string): Aml {
  const match = /^([A-Z]{3})([0-9A-F]{4})$/.exec(id);
  if (!match) throw new RangeError(`not an EISA identifier: ${id}`);
  const [, vendor = "", product = ""] = match;
  const letters = Array.from(vendor, (letter) => letter.charCodeAt(0) - 0x40);
  const vendorBits = letters.reduce((bits, letter) => (bits << 5) | letter, 0);
  const bigEndian = ((vendorBits << 16) | Number.parseInt(product, 16)) >>> 0;
  return concat(bytes(0x0c), littleEndian(bigEndian, 4).reverse());
}

export function buffer(content: Uint8Array): Aml {
  return packaged([0x11], integer(content.length), content);
}

/** A UUID as `_OSC` and `_DSM` compare it (19.6.142: the first three groups are little endian). */
export function uuid(text: string): Aml {
  const hex = text.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) throw new RangeError(`not a UUID: ${text}`);
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(Uint8Array.from(order, (index) => Number.parseInt(hex.slice(index * 2, index * 2 + 2), 16)));
}

export function packageOf(...elements: readonly Aml[]): Aml {
  return packaged([0x12], bytes(elements.length), ...elements);
}

export function name(name: string, value: Aml): Aml {
  return concat(bytes(0x08), path(name), value);
}

export function scope(name: string, ...terms: readonly Aml[]): Aml {
  return packaged([0x10], path(name), ...terms);
}

export function device(name: string, ...terms: readonly Aml[]): Aml {
  return packaged([0x5b, 0x82], path(name), ...terms);
}

export function method(name: string, argumentCount: number, serialized: boolean, ...terms: readonly Aml[]): Aml {
  return packaged([0x14], path(name), bytes(argumentCount | (serialized ? 0x08 : 0)), ...terms);
}

/** A region of I/O ports. */
export function portRegion(name: string, port: number, sizeBytes: number): Aml {
  return concat(bytes(0x5b, 0x80), path(name), bytes(0x01), integer(port), integer(sizeBytes));
}

/** Names consecutive bytes of a region; byte access, no lock, unnamed bits are preserved. */
export function byteFields(region: string, ...names: readonly string[]): Aml {
  return fields(region, 0x01, 8, names);
}

/** Names consecutive dwords of a region, as `byteFields`; dword access. */
export function dwordFields(region: string, ...names: readonly string[]): Aml {
  return fields(region, 0x03, 32, names);
}

/** Fields of less than 64 bits: the width is a package length, which has one byte then (20.2.5.2). */
function fields(region: string, access: number, widthBits: number, names: readonly string[]): Aml {
  const named = names.map((field) => concat(nameSegment(field), bytes(widthBits)));
  return packaged([0x5b, 0x81], path(region), bytes(access), ...named);
}

/** `CreateDWordField (source, offset, name)` */
export function createDwordField(source: Aml, offsetBytes: number, name: string): Aml {
  return concat(bytes(0x8a), source, integer(offsetBytes), path(name));
}

/** Arg0 to Arg6. */
export const argument = (index: number): Aml => bytes(0x68 + index);
/** Local0 to Local7. */
export const local = (index: number): Aml => bytes(0x60 + index);

/** `target = value` */
export const store = (value: Aml, target: Aml): Aml => concat(bytes(0x70), value, target);
/** `target = a & b` */
export const andInto = (a: Aml, b: Aml, target: Aml): Aml => concat(bytes(0x7b), a, b, target);
/** `target = a | b` */
export const orInto = (a: Aml, b: Aml, target: Aml): Aml => concat(bytes(0x7d), a, b, target);
/** `a & b`, not stored. */
export const and = (a: Aml, b: Aml): Aml => andInto(a, b, bytes(0));
export const equal = (a: Aml, b: Aml): Aml => concat(bytes(0x93), a, b);
export const not = (a: Aml): Aml => concat(bytes(0x92), a);
export const when = (condition: Aml, ...terms: readonly Aml[]): Aml => packaged([0xa0], condition, ...terms);
/** Follows `when`. */
export const otherwise = (...terms: readonly Aml[]): Aml => packaged([0xa1], ...terms);
export const give = (value: Aml): Aml => concat(bytes(0xa4), value);
export const notify = (target: string, value: Aml): Aml => concat(bytes(0x86), path(target), value);
/** A method's invocation (20.2.5.4): its name, and as many arguments as it was declared with. */
export const call = (method: string, ...args: readonly Aml[]): Aml => concat(path(method), ...args);
