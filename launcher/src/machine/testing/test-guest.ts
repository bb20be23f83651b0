import { execFileSync } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type FileSource, handleSource } from "../../boot/file-source.ts";

const repository = join(import.meta.dirname, "../../../..");

/** Which way the test guest is entered. */
export type TestGuestEntry = "pvh" | "linux64";

/** Builds the native parts where they are not up to date, and answers the test guest's path. */
export function buildTestGuest(entry: TestGuestEntry = "pvh"): string {
  for (const command of ["hack/build-native", "hack/build-testguest"])
    execFileSync(join(repository, command), { stdio: ["ignore", "ignore", "inherit"] });
  return join(repository, "dist/testguest", entry === "pvh" ? "testguest" : "testguest-linux64");
}

/** The test guest as a kernel file; the handle is closed with it. */
export async function openTestGuest(entry: TestGuestEntry = "pvh"): Promise<FileSource & AsyncDisposable> {
  const path = buildTestGuest(entry);
  const handle = await open(path);
  return Object.assign(await handleSource(path, handle), { [Symbol.asyncDispose]: () => handle.close() });
}
