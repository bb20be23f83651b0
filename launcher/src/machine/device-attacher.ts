import type { Devices, HotDevice } from "./devices.ts";

/** What differs between kinds of devices that come to a running machine. */
export interface AttachableKind<Config extends { readonly name: string }, Device extends HotDevice> {
  find(name: string): Device | undefined;
  /** Throws where a device that is there already is not the one that is asked for. */
  checkSame(known: Device, config: Config): void;
  /** Rejects where it cannot be had. */
  open(config: Config): Promise<Device>;
}

export interface DeviceAttacherParts {
  readonly devices: Devices;
  /** Resolves when a device can go on the bus; rejects when none ever can. */
  readonly ready: () => Promise<void>;
}

/** Adds devices of one kind to a running machine, one after the other. */
export class DeviceAttacher<Config extends { readonly name: string }, Device extends HotDevice> {
  readonly #kind: AttachableKind<Config, Device>;
  readonly #parts: DeviceAttacherParts;
  /** Settled when none is under way. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(kind: AttachableKind<Config, Device>, parts: DeviceAttacherParts) {
    this.#kind = kind;
    this.#parts = parts;
  }

  /**
   * Resolves when the device is on the bus, from now or from before. Rejects with PciSpaceError, or as its kind or `ready`;
   * what was opened is closed then.
   */
  async attach(config: Config): Promise<"attached" | "unchanged"> {
    const attached = this.#last.then(() => this.#attach(config));
    this.#last = attached.catch(() => {});
    return await attached;
  }

  async #attach(config: Config): Promise<"attached" | "unchanged"> {
    const { devices, ready } = this.#parts;
    await ready();
    const known = this.#kind.find(config.name);
    if (known) {
      this.#kind.checkSame(known, config);
      return "unchanged";
    }
    const device = await this.#kind.open(config);
    try {
      // Opening takes its time, in which the machine may have been reset or ended.
      await ready();
      devices.plug(device);
      return "attached";
    } catch (error) {
      await device.close();
      throw error;
    }
  }
}
