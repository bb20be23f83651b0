import type { AgentErrorCode } from "../../api/agent.ts";
import { AgentRefused, AgentUnavailable } from "../agent-client/agent-client.ts";
import { BootImageError } from "../boot/boot-image-error.ts";
import { StateRefused } from "../codec/state-refused.ts";
import { ConfigInvalid } from "../config/field.ts";
import { KvmUnavailable } from "../kvm/kvm-unavailable.ts";
import { errorText } from "../log/error-text.ts";
import { MigrationError } from "../migration/migration-error.ts";
import { SuspensionError } from "../migration/suspension-error.ts";
import { NetworkError } from "../net/network-link.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { DiskError } from "../storage/disk-error.ts";
import type { Termination } from "./termination.ts";

/** What a failure to start a machine means to who asked for it. */
export function terminationOf(error: unknown): Termination {
  const cause = fieldOf(error);
  return { reason: reasonOf(cause), message: errorText(cause) };
}

/** The same, as a fault of the field that asks for too much, where only the machine can tell. */
function fieldOf(error: unknown): unknown {
  if (!(error instanceof PciSpaceError)) return error;
  return new ConfigInvalid("disks", `has more entries than the machine has room for (${error.message}); remove some`);
}

/** Of an agent that works: the node, or the pod's network, is not what the machine needs. */
const refusals: Partial<Readonly<Record<AgentErrorCode, Termination["reason"]>>> = {
  DeviceMissing: "KvmUnavailable",
  NetworkUnfit: "NetworkUnavailable",
};

function reasonOf(error: unknown): Termination["reason"] {
  if (error instanceof ConfigInvalid) return "ConfigInvalid";
  if (error instanceof KvmUnavailable) return "KvmUnavailable";
  if (error instanceof BootImageError) return "BootImageInvalid";
  if (error instanceof DiskError) return "DiskUnavailable";
  const isOfState =
    error instanceof StateRefused || error instanceof SuspensionError || error instanceof MigrationError;
  if (isOfState) return "StateInvalid";
  if (error instanceof NetworkError) return "NetworkUnavailable";
  if (error instanceof AgentRefused) return refusals[error.code] ?? "AgentUnavailable";
  if (error instanceof AgentUnavailable) return "AgentUnavailable";
  return "LauncherError";
}
