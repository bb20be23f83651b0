import { AgentRefused, AgentUnavailable } from "../agent-client/agent-client.ts";
import { BootImageError } from "../boot/boot-image-error.ts";
import { ConfigInvalid } from "../config/field.ts";
import { KvmUnavailable } from "../kvm/kvm-unavailable.ts";
import { errorText } from "../log/error-text.ts";
import { DiskError } from "../storage/disk-error.ts";
import type { Termination } from "./termination.ts";

/** What a failure to start a machine means to who asked for it. */
export function terminationOf(error: unknown): Termination {
  return { reason: reasonOf(error), message: errorText(error) };
}

function reasonOf(error: unknown): Termination["reason"] {
  if (error instanceof ConfigInvalid) return "ConfigInvalid";
  if (error instanceof KvmUnavailable) return "KvmUnavailable";
  if (error instanceof BootImageError) return "BootImageInvalid";
  if (error instanceof DiskError) return "DiskUnavailable";
  if (error instanceof AgentRefused) return error.code === "DeviceMissing" ? "KvmUnavailable" : "AgentUnavailable";
  if (error instanceof AgentUnavailable) return "AgentUnavailable";
  return "LauncherError";
}
