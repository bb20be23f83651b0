import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { keyOf } from "../images/key.ts";
import { run } from "../lib/step.ts";
import { unpackOciArchive } from "./unpack-image.ts";

const repository = join(import.meta.dirname, "..", "..");

/** Guests of the lab: name here, and image of dist/images. */
const guestImages = { hello: "guest-hello", debian: "guest-debian", "debian-cloud": "guest-debian-cloud" } as const;
export type GuestImage = keyof typeof guestImages;

export interface UnpackedGuests {
  /** Holds a directory for each guest, laid out as its image: boot/, disk/. */
  readonly directory: string;
  /** Stands for what is in it. */
  readonly key: string;
}

/** The guest images of `hack/images/build`, unpacked as an image volume would show them. */
export async function unpackedGuests(): Promise<UnpackedGuests> {
  await run([join(repository, "hack/images/build"), ...Object.values(guestImages)]);
  const stamps = Object.values(guestImages).map((name) => archive(name, "json"));
  const digests = await Promise.all(stamps.map(async (path) => JSON.parse(await readFile(path, "utf8")).digest));
  const key = await keyOf([{ value: digests }]);
  const directory = await cached({
    key: `lab-guests-${key}`,
    title: "Unpacking the guest images",
    estimateSeconds: 10,
    build: async (into) => {
      for (const [guest, image] of Object.entries(guestImages)) {
        await unpackOciArchive(archive(image, "tar"), join(into, guest));
      }
      await run(["find", into, "-name", "disk.img", "-exec", "fallocate", "--dig-holes", "{}", ";"]);
    },
  });
  return { directory, key };
}

function archive(name: string, extension: string): string {
  return join(repository, "dist/images", `${name}.${extension}`);
}
