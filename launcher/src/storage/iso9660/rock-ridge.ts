import { latin1, putBoth32 } from "./numbers.ts";

// System use sharing protocol (IEEE P1281) and Rock Ridge (IEEE P1282): each entry has a signature of two letters, its
// length and a version.
const VERSION = 1;
const HEADER_BYTES = 4;
const NAME_HEADER_BYTES = 5;
const NAME_CONTINUES = 1;
const CONTINUATION_BYTES = 28;

const DIRECTORY_MODE = 0o040555;
const FILE_MODE = 0o100444;

/** Where the rest of a name is, when its directory record has no room for it. */
export interface Continuation {
  readonly sector: number;
  readonly offset: number;
}

/** For the root's own record: says that the protocol is used (SP) and which extension (ER), whose texts may be empty. */
export function rootEntries(): Uint8Array[] {
  const identifier = latin1("RRIP_1991A");
  return [
    entry("SP", [0xbe, 0xef, 0]),
    attributes(DIRECTORY_MODE, 2),
    entry("ER", [identifier.length, 0, 0, 1, ...identifier]),
  ];
}

export function parentEntries(): Uint8Array[] {
  return [attributes(DIRECTORY_MODE, 2)];
}

/**
 * The entries of a file's directory record, which has `roomBytes` for them. Where they do not fit, the rest of the name
 * goes where `putElsewhere` says. A `name` has at most 255 bytes, as files have.
 */
export function fileEntries(
  name: Uint8Array,
  roomBytes: number,
  putElsewhere: (entry: Uint8Array) => Continuation,
): Uint8Array[] {
  const posix = attributes(FILE_MODE, 1);
  const nameRoom = roomBytes - posix.length - NAME_HEADER_BYTES;
  if (name.length <= nameRoom) return [posix, namePart(name, false)];
  const here = nameRoom - CONTINUATION_BYTES;
  const rest = namePart(name.subarray(here), false);
  const { sector, offset } = putElsewhere(rest);
  const pointer = new DataView(new ArrayBuffer(CONTINUATION_BYTES - HEADER_BYTES));
  putBoth32(pointer, 0, sector);
  putBoth32(pointer, 8, offset);
  putBoth32(pointer, 16, rest.length);
  return [posix, namePart(name.subarray(0, here), true), entry("CE", new Uint8Array(pointer.buffer))];
}

function attributes(mode: number, links: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(32));
  putBoth32(view, 0, mode);
  putBoth32(view, 8, links);
  return entry("PX", new Uint8Array(view.buffer));
}

function namePart(part: Uint8Array, continues: boolean): Uint8Array {
  return entry("NM", [continues ? NAME_CONTINUES : 0, ...part]);
}

function entry(signature: string, data: ArrayLike<number>): Uint8Array {
  return Uint8Array.from([...latin1(signature), HEADER_BYTES + data.length, VERSION, ...Array.from(data)]);
}
