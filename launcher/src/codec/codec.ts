import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { CodecError } from "./codec-error.ts";

/**
 * How values of one shape are written as bytes and read back. Shapes are declared by the functions below, which put
 * codecs together; what a codec reads is of its shape and within its limits, whatever the bytes are.
 */
export interface Codec<Value> {
  /** `value` is of the codec's shape and within its limits; RangeError where it is not: a defect of this program. */
  write(writer: ByteWriter, value: Value): void;
  /** Throws CodecError. */
  read(reader: ByteReader): Value;
}

export type ValueOf<Codec_> = Codec_ extends Codec<infer Value> ? Value : never;

/** `value` as bytes; valid for as long as the caller likes. */
export function encode<Value>(codec: Codec<Value>, value: Value): Uint8Array {
  const writer = new ByteWriter();
  codec.write(writer, value);
  return writer.bytes;
}

/** The value that all of `bytes` stand for, in the format of `version`. Throws CodecError. */
export function decode<Value>(codec: Codec<Value>, bytes: Uint8Array, version: number): Value {
  const reader = new ByteReader(bytes, version);
  const value = codec.read(reader);
  if (reader.leftBytes > 0) throw new CodecError(`${reader.leftBytes} bytes too many`);
  return value;
}

/** Whole numbers of `widthBytes` from 0 to `max`. */
export function uint(widthBytes: 1 | 2 | 4, max = 2 ** (8 * widthBytes) - 1): Codec<number> {
  return {
    write(writer, value) {
      if (!Number.isInteger(value) || value < 0 || value > max)
        throw new RangeError(`${value} is not from 0 to ${max}`);
      writer.uint(value, widthBytes);
    },
    read(reader) {
      const value = reader.uint(widthBytes);
      if (value > max) throw new CodecError(`${value} is more than ${max}`);
      return value;
    },
  };
}

export const u8 = uint(1);
export const u16 = uint(2);
export const u32 = uint(4);

/** 64 bits. */
export const u64: Codec<bigint> = {
  write: (writer, value) => writer.uint64(value),
  read: (reader) => reader.uint64(),
};

/** Whole numbers from 0 to `max`, at most 2^53 - 1, in 8 bytes. */
export function u53(max = Number.MAX_SAFE_INTEGER): Codec<number> {
  return {
    write(writer, value) {
      if (!Number.isInteger(value) || value < 0 || value > max)
        throw new RangeError(`${value} is not from 0 to ${max}`);
      writer.uint64(BigInt(value));
    },
    read(reader) {
      const value = reader.uint64();
      if (value > BigInt(max)) throw new CodecError(`${value} is more than ${max}`);
      return Number(value);
    },
  };
}

export const bool: Codec<boolean> = {
  write: (writer, value) => writer.uint(value ? 1 : 0, 1),
  read(reader) {
    const value = reader.uint(1);
    if (value > 1) throw new CodecError(`${value} is neither 0 nor 1`);
    return value === 1;
  },
};

/** Up to `maxBytes` bytes, after their number. */
export function bytes(maxBytes: number): Codec<Uint8Array> {
  const length = uint(4, maxBytes);
  return {
    write(writer, value) {
      length.write(writer, value.length);
      writer.raw(value);
    },
    read: (reader) => reader.raw(length.read(reader)),
  };
}

/** Exactly `lengthBytes` bytes. */
export function fixedBytes(lengthBytes: number): Codec<Uint8Array> {
  return {
    write(writer, value) {
      if (value.length !== lengthBytes) throw new RangeError(`${value.length} bytes instead of ${lengthBytes}`);
      writer.raw(value);
    },
    read: (reader) => reader.raw(lengthBytes),
  };
}

/** Up to `maxBytes` of UTF-8. */
export function text(maxBytes: number): Codec<string> {
  const inner = bytes(maxBytes);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return {
    write: (writer, value) => inner.write(writer, new TextEncoder().encode(value)),
    read(reader) {
      const found = inner.read(reader);
      try {
        return decoder.decode(found);
      } catch {
        throw new CodecError("is not UTF-8");
      }
    },
  };
}

/** One of `values`, by its place among them. */
export function oneOf<const Value>(values: readonly Value[]): Codec<Value> {
  return {
    write(writer, value) {
      const index = values.indexOf(value);
      if (index < 0) throw new RangeError(`${value} is not one of ${values.join(", ")}`);
      writer.uint(index, 1);
    },
    read(reader) {
      const index = reader.uint(1);
      const value = values[index];
      if (value === undefined) throw new CodecError(`${index} stands for nothing`);
      return value;
    },
  };
}

/** Up to `max` values, after their number. */
export function list<Value>(item: Codec<Value>, max: number): Codec<readonly Value[]> {
  const count = uint(4, max);
  return {
    write(writer, values) {
      count.write(writer, values.length);
      for (const value of values) item.write(writer, value);
    },
    // One by one: no room is taken for what the bytes only claim to hold.
    read(reader) {
      const values: Value[] = [];
      for (let i = 0, length = count.read(reader); i < length; i++)
        values.push(named(`[${i}]`, () => item.read(reader)));
      return values;
    },
  };
}

/** A value or null. */
export function nullable<Value>(item: Codec<Value>): Codec<Value | null> {
  return {
    write(writer, value) {
      bool.write(writer, value !== null);
      if (value !== null) item.write(writer, value);
    },
    read: (reader) => (bool.read(reader) ? item.read(reader) : null),
  };
}

/** A field that formats before `version` do not have: it reads as `otherwise` there. */
export function since<Value>(version: number, item: Codec<Value>, otherwise: Value): Codec<Value> {
  return {
    write: (writer, value) => item.write(writer, value),
    read: (reader) => (reader.version >= version ? item.read(reader) : otherwise),
  };
}

type Fields = Readonly<Record<string, Codec<never> | Codec<unknown>>>;
type RecordOf<Fields_ extends Fields> = { readonly [Name in keyof Fields_]: ValueOf<Fields_[Name]> };

/** An object: its fields one after the other, in the order of `fields`. */
export function record<const Fields_ extends Fields>(fields: Fields_): Codec<RecordOf<Fields_>> {
  const entries = Object.entries(fields) as [string, Codec<unknown>][];
  return {
    write(writer, value) {
      for (const [name, field] of entries) field.write(writer, Reflect.get(value, name));
    },
    read(reader) {
      const value: Record<string, unknown> = {};
      for (const [name, field] of entries) value[name] = named(name, () => field.read(reader));
      return value as RecordOf<Fields_>;
    },
  };
}

function named<Value>(name: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    throw error instanceof CodecError ? error.inside(name) : error;
  }
}
