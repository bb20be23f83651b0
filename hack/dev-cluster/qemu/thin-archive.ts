import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract as newExtract, pack as newPack } from "tar-stream";

/** The OCI archive in `file` without the blobs that the receiver has: images of ours share most of their bytes. */
export function thinArchive(file: string, present: ReadonlySet<string>): Readable {
  const thin = newPack();
  const entries = newExtract();
  entries.on("entry", (header, stream, next) => {
    if (present.has(header.name.replace(/^blobs\/(\w+)\/(\w+)$/, "$1:$2"))) {
      stream.on("end", next);
      stream.resume();
    } else {
      stream.pipe(thin.entry(header, next));
    }
  });
  pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), entries).then(
    () => thin.finalize(),
    (error) => thin.destroy(error),
  );
  return Readable.from(thin);
}
