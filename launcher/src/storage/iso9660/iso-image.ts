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

/** Sectors of what every volume has; section 6.2.1 leaves the first 16 to the system. */
const Sector = { primary: 16, joliet: 17, terminator: 18, primaryPaths: 19, jolietPaths: 21, directories: 23 } as const;

/** The parts of a volume, in the order that readers of streams (libarchive) want. */
interface Parts {
  readonly primaryRoot: Uint8Array;
  /** What the records of `primaryRoot` have no room for. */
  readonly continuations: Uint8Array;
  readonly jolietRoot: Uint8Array;
  readonly files: readonly Uint8Array[];
}
type Places = { readonly [Name in keyof Omit<Parts, "files">]: Extent } & { readonly files: readonly Extent[] };

/**
 * An ISO 9660 volume (ECMA-119) with `files` in its root, under their names by Rock Ridge and by Joliet. The same files
 * in any order make the same bytes. `label` has up to 32 characters of ASCII, of which Joliet takes 16.
 */
export function buildIso(label: string, files: readonly IsoFile[]): Uint8Array {
  const sorted = [...files].sort((one, other) => Buffer.compare(Buffer.from(one.name), Buffer.from(other.name)));
  if (new Set(files.map(({ name }) => name)).size !== files.length) throw new RangeError("two files of one name");
  // Directories say where things are, but how long they are does not depend on it.
  const nowhere = { sector: 0, lengthBytes: 0 };
  const draft = makeParts(sorted, {
    primaryRoot: nowhere,
    continuations: nowhere,
    jolietRoot: nowhere,
    files: sorted.map(() => nowhere),
  });
  const { places, sectors } = place(draft);
  const parts = makeParts(sorted, places);
  const image = new Uint8Array(sectors * SECTOR);
  const put = (sector: number, bytes: Uint8Array) => image.set(bytes, sector * SECTOR);
  for (const [isJoliet, at, paths, root] of [
    [false, Sector.primary, Sector.primaryPaths, places.primaryRoot],
    [true, Sector.joliet, Sector.jolietPaths, places.jolietRoot],
  ] as const) {
    const pathTableSector = { little: paths, big: paths + 1 };
    put(at, volumeDescriptor({ label, isJoliet, sectors, pathTableSector, root }));
    put(paths, pathTable(root.sector, true));
    put(paths + 1, pathTable(root.sector, false));
  }
  put(Sector.terminator, terminator());
  for (const name of ["primaryRoot", "continuations", "jolietRoot"] as const) put(places[name].sector, parts[name]);
  parts.files.forEach((content, i) => {
    put(places.files[i]?.sector ?? 0, content);
  });
  return image;
}

function place({ primaryRoot, jolietRoot, continuations, files }: Parts): { places: Places; sectors: number } {
  let sectors: number = Sector.directories;
  const next = ({ length: lengthBytes }: Uint8Array): Extent => {
    const extent = { sector: sectors, lengthBytes };
    sectors += wholeSectors(lengthBytes) / SECTOR;
    return extent;
  };
  const places = {
    primaryRoot: next(primaryRoot),
    continuations: next(continuations),
    jolietRoot: next(jolietRoot),
    files: files.map(next),
  };
  return { places, sectors };
}

function makeParts(files: readonly IsoFile[], places: Places): Parts {
  const names = files.map(({ name }) => name);
  const continuations = new Continuations(places.continuations.sector);
  const isoNames = isoIdentifiers(names).map(latin1);
  const primary = isoNames.map((identifier, i): FileRecord => {
    const name = Buffer.from(names[i] ?? "");
    const entries = fileEntries(name, systemUseRoom(identifier), (rest) => continuations.add(rest));
    return { identifier, extent: places.files[i], entries };
  });
  const joliet = jolietIdentifiers(names).map(
    (name, i): FileRecord => ({ identifier: ucs2(name), extent: places.files[i], entries: [] }),
  );
  return {
    primaryRoot: rootDirectory(places.primaryRoot, primary, [rootEntries(), parentEntries()]),
    jolietRoot: rootDirectory(places.jolietRoot, joliet, [[], []]),
    continuations: continuations.bytes(),
    files: files.map(({ content }) => content),
  };
}

interface FileRecord {
  readonly identifier: Uint8Array;
  readonly extent: Extent | undefined;
  readonly entries: readonly Uint8Array[];
}

/** A root directory: itself, itself as its parent, then `records` by their identifiers (section 9.3). */
function rootDirectory(
  own: Extent,
  records: readonly FileRecord[],
  [ownEntries, parentsEntries]: readonly [readonly Uint8Array[], readonly Uint8Array[]],
): Uint8Array {
  const sorted = [...records].sort((one, other) => Buffer.compare(one.identifier, other.identifier));
  return packRecords([
    directoryRecord(Uint8Array.of(0), own, true, ownEntries),
    directoryRecord(Uint8Array.of(1), own, true, parentsEntries),
    ...sorted.map(({ identifier, extent, entries }) =>
      directoryRecord(identifier, extent ?? { sector: 0, lengthBytes: 0 }, false, entries),
    ),
  ]);
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
