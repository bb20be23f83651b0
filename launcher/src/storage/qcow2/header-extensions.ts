/** Incompatible features, as bits of their low word: who does not know one must not open the image. */
export const INCOMPATIBLE = {
  /** Reference counts may be wrong: of no matter to a reader. */
  dirty: 1 << 0,
  corrupt: 1 << 1,
  externalData: 1 << 2,
  /** The compression type in the header is not zlib. */
  compression: 1 << 3,
  extendedL2: 1 << 4,
} as const;

const EXTENSION_END = 0;
const EXTENSION_FEATURE_NAMES = 0x6803f857;
const EXTENSION_DATA_FILE = 0x44415441;
const FEATURE_ENTRY_BYTES = 48;
const FEATURE_KIND_INCOMPATIBLE = 0;
/** More than any image has; a name is no reason to look at more. */
const EXTENSION_LIMIT = 64;

/** The header extensions that are of use, only for what an error says. */
export interface Qcow2Extensions {
  /** Of incompatible features, by bit. */
  readonly featureNames: ReadonlyMap<number, string>;
  readonly dataFile?: string;
}

/** Reads what can be read of the extensions (QEMU docs/interop/qcow2, "Header extensions"); never throws. */
export function parseExtensions(start: Uint8Array, headerBytes: number): Qcow2Extensions {
  const fields = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const featureNames = new Map<number, string>();
  let dataFile: string | undefined;
  let at = headerBytes;
  for (let count = 0; count < EXTENSION_LIMIT && at + 8 <= start.length; count++) {
    const [kind, lengthBytes] = [fields.getUint32(at), fields.getUint32(at + 4)];
    if (kind === EXTENSION_END) break;
    const content = start.subarray(at + 8, at + 8 + lengthBytes);
    if (kind === EXTENSION_FEATURE_NAMES) addFeatureNames(featureNames, content);
    if (kind === EXTENSION_DATA_FILE) dataFile = text(content);
    at += 8 + Math.ceil(lengthBytes / 8) * 8;
  }
  return dataFile === undefined ? { featureNames } : { featureNames, dataFile };
}

/** What an incompatible feature is called: by the image's own table, and by its bit. */
export function featureName(extensions: Qcow2Extensions, bit: number): string {
  const name = extensions.featureNames.get(bit);
  return name ? `${name} (bit ${bit})` : `bit ${bit}`;
}

/** Bytes of an image as one line of ASCII for a message, up to the first NUL. */
export function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const readable = Array.from(end < 0 ? bytes : bytes.subarray(0, end), (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "?",
  );
  return readable.slice(0, MESSAGE_LIMIT).join("");
}

const MESSAGE_LIMIT = 256;

function addFeatureNames(names: Map<number, string>, table: Uint8Array): void {
  for (let at = 0; at + FEATURE_ENTRY_BYTES <= table.length; at += FEATURE_ENTRY_BYTES) {
    const [kind, bit] = [table[at], table[at + 1] ?? 0];
    if (kind === FEATURE_KIND_INCOMPATIBLE) names.set(bit, text(table.subarray(at + 2, at + FEATURE_ENTRY_BYTES)));
  }
}
