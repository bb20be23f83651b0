import { LauncherError } from "../../launcher-client/launcher-client.ts";
import { ApiError } from "../../runtime/errors.ts";

/** A disk or an interface could not be given to a running machine: told in its status, and tried again later. */
export class DeviceRefusedError extends Error {
  override readonly name = "DeviceRefusedError";
  /** Name of a disk, or key of an interface (`interfaceKey`). */
  readonly device: string;
  readonly isPassing: boolean;

  constructor(device: string, message: string, isPassing: boolean) {
    super(message);
    this.device = device;
    this.isPassing = isPassing;
  }
}

/** Does it; an answer that says no becomes a DeviceRefusedError. What is no answer stays as it is. */
export async function asDeviceRefusal<T>(device: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof LauncherError && error.code === "NotFound")
      throw new DeviceRefusedError(
        device,
        `Its launcher is too old to take ${isInterface(device) ? "an interface" : "a disk"} while it runs; restart the machine`,
        false,
      );
    if (error instanceof LauncherError && error.statusCode >= 400 && error.statusCode < 500)
      throw new DeviceRefusedError(device, error.message, error.code === "NotReady");
    if (error instanceof ApiError && (error.isForbidden || error.isInvalid))
      throw new DeviceRefusedError(
        device,
        `Its attachment pod is refused: ${error.status.message ?? error.message}`,
        false,
      );
    throw error;
  }
}

const INTERFACES = "interfaces/";

/** Stands for an interface where disks stand by their names. */
export function interfaceKey(name: string): string {
  return `${INTERFACES}${name}`;
}

function isInterface(device: string): boolean {
  return device.startsWith(INTERFACES);
}
