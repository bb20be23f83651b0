import { isoIdentifiers, jolietIdentifiers } from "./names.ts";
import { latin1, ucs2 } from "./numbers.ts";
import { type Continuation, fileEntries, parentEntries, rootEntries } from "./rock-ridge.ts";
import {
  directoryRecord,
  type Extent,
  packRecords,
  pathTable,
  SECTOR,
  startOfNext,
  systemUseRoom,
  terminator,
  volumeDescriptor,
  wholeSectors,
} from "./volume.ts";

export interface IsoFile {
  /** 1 to 255 bytes of UTF-8, without "/" and NUL. */
  readonly name: string;
  readonly content: Uint8Array;
}

/** Where things are, in sectors; section 6.2.1 leaves the first 16 to the system. Files come before directories. */
const Sector = { primary: 16, joliet: 17, terminator: 18, primaryPaths: 19, jolietPaths: 21, files: 23 } as const;

interface PlacedFile {
  readonly name: string;
  readonly extent: Extent;
}

/**
 * An ISO 9660 volume (ECMA-119) with `files` in its root, under their names by Rock Ridge and by Joliet. The same files
 * in any order make the same bytes. `label` has up to 32 characters of ASCII, of which Joliet takes 16.
 */
export function buildIso(label: string, files: readonly IsoFile[]): Uint8Array {
  const sorted = [...files].sort((one, other) => Buffer.compare(Buffer.from(one.name), Buffer.from(other.name)));
  if (new Set(files.map(({ name }) => name)).size !== files.length) throw new RangeError("two files of one name");
  const layout = new Layout();
  const placed = sorted.map(({ name, content }) => ({ name, extent: layout.append(content) }));
  const primaryRoot = appendPrimaryRoot(layout, placed);
  const jolietRoot = appendJolietRoot(layout, placed);
  for (const [isJoliet, at, paths, root] of [
    [false, Sector.primary, Sector.primaryPaths, primaryRoot],
    [true, Sector.joliet, Sector.jolietPaths, jolietRoot],
  ] as const) {
    const pathTableSector = { little: paths, big: paths + 1 };
    layout.put(at, volumeDescriptor({ label, isJoliet, sectors: layout.sectors, pathTableSector, root }));
    layout.put(paths, pathTable(root.sector, true));
    layout.put(paths + 1, pathTable(root.sector, false));
  }
  layout.put(Sector.terminator, terminator());
  return layout.image();
}

/** Places things, each in whole sectors. */
class Layout {
  sectors: number = Sector.files;
  readonly #parts: { readonly sector: number; readonly bytes: Uint8Array }[] = [];

  put(sector: number, bytes: Uint8Array): void {
    this.#parts.push({ sector, bytes });
  }

  append(bytes: Uint8Array): Extent {
    const { sectors: sector } = this;
    this.put(sector, bytes);
    this.sectors += wholeSectors(bytes.length) / SECTOR;
    return { sector, lengthBytes: bytes.length };
  }

  image(): Uint8Array {
    const image = new Uint8Array(this.sectors * SECTOR);
    for (const { sector, bytes } of this.#parts) image.set(bytes, sector * SECTOR);
    return image;
  }
}

function appendPrimaryRoot(layout: Layout, files: readonly PlacedFile[]): Extent {
  const identifiers = isoIdentifiers(files.map(({ name }) => name)).map(latin1);
  const rests = new Continuations(layout.sectors);
  const records = files.map(({ name, extent }, i) => {
    const identifier = identifiers[i] ?? new Uint8Array();
    const bytes = Buffer.from(name);
    return { identifier, extent, entries: fileEntries(bytes, systemUseRoom(identifier), (rest) => rests.add(rest)) };
  });
  layout.append(rests.bytes());
  return appendRoot(layout, records, [rootEntries(), parentEntries()]);
}

function appendJolietRoot(layout: Layout, files: readonly PlacedFile[]): Extent {
  const identifiers = jolietIdentifiers(files.map(({ name }) => name)).map(ucs2);
  const records = files.map(({ extent }, i) => ({
    identifier: identifiers[i] ?? new Uint8Array(),
    extent,
    entries: [],
  }));
  return appendRoot(layout, records, [[], []]);
}

interface Record {
  readonly identifier: Uint8Array;
  readonly extent: Extent;
  readonly entries: readonly Uint8Array[];
}

/** A root directory: itself, itself as its parent, then `records` by their identifiers (section 9.3). */
function appendRoot(
  layout: Layout,
  records: readonly Record[],
  [own, parent]: readonly [readonly Uint8Array[], readonly Uint8Array[]],
): Extent {
  const sorted = [...records].sort((one, other) => Buffer.compare(one.identifier, other.identifier));
  const pack = (root: Extent) =>
    packRecords([
      directoryRecord(Uint8Array.of(0), root, true, own),
      directoryRecord(Uint8Array.of(1), root, true, parent),
      ...sorted.map(({ identifier, extent, entries }) => directoryRecord(identifier, extent, false, entries)),
    ]);
  // The records name the directory's own length, which does not depend on it.
  const { length: lengthBytes } = pack({ sector: 0, lengthBytes: 0 });
  return layout.append(pack({ sector: layout.sectors, lengthBytes }));
}

/** What directory records have no room for, from a sector on; none across the end of a sector. */
class Continuations {
  readonly #sector: number;
  readonly #entries: Uint8Array[] = [];
  #end = 0;

  constructor(sector: number) {
    this.#sector = sector;
  }

  add(entry: Uint8Array): Continuation {
    const at = startOfNext(this.#end, entry.length);
    this.#end = at + entry.length;
    this.#entries.push(entry);
    return { sector: this.#sector + Math.floor(at / SECTOR), offset: at % SECTOR };
  }

  bytes(): Uint8Array {
    return packRecords(this.#entries);
  }
}
