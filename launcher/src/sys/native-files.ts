import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

/** Directory that native files are taken from, instead of where they are looked for otherwise. */
const OVERRIDE_VARIABLE = "TYPEVISOR_NATIVE_DIR";

/** A native file that the program cannot run without is nowhere to be found. */
export class NativeFileMissing extends Error {
  readonly file: string;
  constructor(file: string, looked: readonly string[]) {
    super(`${file} is missing: looked for ${looked.join(", ")}`);
    this.name = "NativeFileMissing";
    this.file = file;
  }
}

/**
 * Path of a native file: in $TYPEVISOR_NATIVE_DIR when that is set, else beside the running bundle, else where
 * development has it (`developmentPath`, not asked in a container, where it could only fail). Throws NativeFileMissing.
 */
export function nativeFile(file: string, developmentPath: () => string): string {
  const directory = process.env[OVERRIDE_VARIABLE];
  const installed = join(directory ?? import.meta.dirname, file);
  if (existsSync(installed)) return installed;
  if (directory !== undefined) throw new NativeFileMissing(file, [installed]);
  const development = developmentPath();
  if (!existsSync(development)) throw new NativeFileMissing(file, [installed, development]);
  return development;
}

/** Path of koffi's binary: `koffi.node` beside the bundle, or that of the npm package. */
export function koffiBinary(): string {
  return nativeFile("koffi.node", () =>
    createRequire(import.meta.url).resolve("@koromix/koffi-linux-x64/linux_x64/koffi.node"),
  );
}
