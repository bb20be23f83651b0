import { isDeepStrictEqual } from "node:util";
import type { InterfaceConfig } from "../../api/machine-config.ts";
import { INTERFACES_MAX } from "../../api/machine-config.ts";
import { NetworkError, type NetworkLink } from "../net/network-link.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import type { NetworkInterface } from "../virtio/net/interfaces.ts";
import type { Devices } from "./devices.ts";

export interface InterfaceAttacherParts {
  readonly virtio: VirtioDevices;
  readonly devices: Devices;
  /** Rejects with NetworkError. */
  readonly openLink: (config: InterfaceConfig) => Promise<NetworkLink>;
  /** Resolves when an interface can go on the bus; rejects when none ever can. */
  readonly ready: () => Promise<void>;
}

/** Adds interfaces to a running machine, one after the other. */
export class InterfaceAttacher {
  readonly #parts: InterfaceAttacherParts;
  /** Settled when none is under way. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: InterfaceAttacherParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when the interface is on the bus, from now or from before. Rejects with NetworkError, PciSpaceError, or as
   * `ready`; the link is closed then.
   */
  async attach(config: InterfaceConfig): Promise<"attached" | "unchanged"> {
    const attached = this.#last.then(() => this.#attach(config));
    this.#last = attached.catch(() => {});
    return await attached;
  }

  async #attach(config: InterfaceConfig): Promise<"attached" | "unchanged"> {
    const { devices, openLink, ready, virtio } = this.#parts;
    await ready();
    const { interfaces } = virtio;
    const known = interfaces.find(config.name);
    if (known) {
      checkSame(known, config);
      return "unchanged";
    }
    if (interfaces.all.length >= INTERFACES_MAX)
      throw new NetworkError(config.name, `a machine has ${INTERFACES_MAX} interfaces at most; detach one first`);
    const made = virtio.openInterface(config, await openLink(config));
    try {
      // Asking takes its time, in which the machine may have been reset or ended.
      await ready();
      devices.plug(made);
      return "attached";
    } catch (error) {
      await made.close();
      throw error;
    }
  }
}

/** The link's state is no part of it: it changes while the interface is there. */
function checkSame(known: NetworkInterface, config: InterfaceConfig): void {
  if (known.isUnwanted)
    throw new NetworkError(
      known.name,
      "the guest has not given up the earlier one of this name yet; wait, or reset it",
    );
  if (!isDeepStrictEqual({ ...known.config, link: "up" }, { ...config, link: "up" }))
    throw new NetworkError(known.name, "the machine has another interface of this name; detach that one first");
}
