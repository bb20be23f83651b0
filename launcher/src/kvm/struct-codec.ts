import type { Codec } from "../codec/codec.ts";
import { type StructName, structs } from "./layouts.ts";

/** A struct of KVM as the kernel has it. */
export function kvmStruct(name: StructName): Codec<DataView> {
  const { sizeBytes } = structs[name];
  return {
    write(writer, view) {
      if (view.byteLength !== sizeBytes) throw new RangeError(`${name} of ${view.byteLength} bytes`);
      writer.raw(bytesOf(view));
    },
    read: (reader) => viewOf(reader.raw(sizeBytes)),
  };
}

export function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
