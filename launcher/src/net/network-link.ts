import type { GuestAddresses } from "../../api/agent.ts";
import type { OwnedFd } from "../sys/fd.ts";

/** One interface's way out of the machine, as the node agent granted it or as it was opened by hand. */
export interface NetworkLink extends Disposable {
  /** One a queue pair. */
  readonly taps: readonly OwnedFd[];
  /** As many of /dev/vhost-net, or none. */
  readonly vhosts: readonly OwnedFd[];
  /** With vhost-net: a TAP without headers that has what the guest sends to the launcher's services, and reaches the guest. */
  readonly answeringTap?: OwnedFd;
  /** Name of the TAP in this process's network namespace. */
  readonly device: string;
  readonly mtuBytes: number;
  /** The MAC that the guest must use, whatever the configuration says. */
  readonly mac?: string;
  /** What the launcher's services tell the guest; none of them without. */
  readonly guest?: GuestAddresses;
  /** The guest may use no other MAC and addresses than its own. */
  readonly isFiltered: boolean;
}

/** An interface that cannot be attached. The message says why and what to do. */
export class NetworkError extends Error {
  readonly interfaceName: string;
  constructor(interfaceName: string, problem: string, options?: ErrorOptions) {
    super(`interface ${interfaceName}: ${problem}`, options);
    this.name = "NetworkError";
    this.interfaceName = interfaceName;
  }
}

/** One that cannot be attached yet: the same may work later. */
export class NetworkNotReady extends NetworkError {}
