const STEM_CHARACTERS = 8;
const EXTENSION_CHARACTERS = 3;
/** Joliet specification, "Allowed file identifiers": in UCS-2. */
const JOLIET_CHARACTERS = 64;

/** File identifiers of level 1 (ECMA-119 sections 7.5 and 10.1), one a name, each different: "USER_DAT.;1". */
export function isoIdentifiers(names: readonly string[]): string[] {
  const taken = new Set<string>();
  const allowed = (text: string) => text.toUpperCase().replace(/[^A-Z0-9_]/g, "_");
  return names.map((name) => {
    const { stem, extension } = split(name);
    const end = `.${allowed(extension).slice(0, EXTENSION_CHARACTERS)}`;
    return `${firstFree(taken, allowed(stem), end, STEM_CHARACTERS)};1`;
  });
}

/** As people named them, up to 64 UTF-16 units, each different; without a version, as the common writers do. */
export function jolietIdentifiers(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: Joliet has no room for them.
    const allowed = name.replace(/[\x00-\x1f*/:;?\\]/g, "_");
    const { stem, extension } = split(allowed);
    const end = extension === "" || extension.length >= JOLIET_CHARACTERS / 2 ? "" : `.${extension}`;
    return firstFree(taken, end === "" ? allowed : stem, end, JOLIET_CHARACTERS - end.length);
  });
}

function split(name: string): { readonly stem: string; readonly extension: string } {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? { stem: name.slice(0, dot), extension: name.slice(dot + 1) } : { stem: name, extension: "" };
}

/** `stem`, cut to what is allowed, then with a number at its end until nobody has the whole. */
function firstFree(taken: Set<string>, stem: string, end: string, maxCharacters: number): string {
  for (let number = 0; ; number++) {
    const suffix = number === 0 ? "" : String(number);
    const candidate = stem.slice(0, maxCharacters - suffix.length) + suffix + end;
    if (taken.has(candidate)) continue;
    taken.add(candidate);
    return candidate;
  }
}
