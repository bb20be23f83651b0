import { LauncherError } from "../../launcher-client/launcher-client.ts";
import { ApiError } from "../../runtime/errors.ts";

/** A disk could not be given to a running machine: told in its status, and tried again later. */
export class DiskRefusedError extends Error {
  override readonly name = "DiskRefusedError";
  readonly disk: string;
  readonly isPassing: boolean;

  constructor(disk: string, message: string, isPassing: boolean) {
    super(message);
    this.disk = disk;
    this.isPassing = isPassing;
  }
}

/** Does it; an answer that says no becomes a DiskRefusedError. What is no answer stays as it is. */
export async function asDiskRefusal<T>(disk: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof LauncherError && error.code === "NotFound")
      throw new DiskRefusedError(
        disk,
        "Its launcher is too old to take a disk while it runs; restart the machine",
        false,
      );
    if (error instanceof LauncherError && error.statusCode >= 400 && error.statusCode < 500)
      throw new DiskRefusedError(disk, error.message, error.code === "NotReady");
    if (error instanceof ApiError && (error.isForbidden || error.isInvalid))
      throw new DiskRefusedError(
        disk,
        `Its attachment pod is refused: ${error.status.message ?? error.message}`,
        false,
      );
    throw error;
  }
}
