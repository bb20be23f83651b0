import type { OciImage } from "../lib/oci.ts";
import type { DebianRelease } from "./debian-packages.ts";
import type { KeyInput } from "./key.ts";

/** Release of Debian that everything in the images comes from. */
export const suite = "trixie";

/** How one image is made. */
export interface ImageRecipe {
  /** Archive is dist/images/`name`.tar, image is `typevisor/name:dev`. */
  readonly name: string;
  readonly about: string;
  /** Everything that the image depends on besides the code in this folder. */
  inputs(tools: ImageTools): Promise<readonly KeyInput[]>;
  make(tools: ImageTools): Promise<Omit<OciImage, "name">>;
}

export interface ImageTools {
  readonly debian: DebianRelease;
  /** Root of the checkout. */
  readonly repository: string;
  say(message: string): void;
}

/** An input that another command has to make first. */
export class InputMissing extends Error {
  override name = "InputMissing";
  readonly path: string;
  constructor(path: string, madeBy: string) {
    super(`${path} is missing; run ${madeBy} first`);
    this.path = path;
  }
}
