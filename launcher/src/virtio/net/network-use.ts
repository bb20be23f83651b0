/** One direction of an interface, as the guest sees it: what it received, or what it sent. */
export interface DirectionUse {
  readonly packets: number;
  /** Without the virtio header. */
  readonly bytes: number;
  /** Frames that were lost for want of room, or stopped by a filter. */
  readonly dropped: number;
  /** Frames that were not sound. */
  readonly errors: number;
}

export class DirectionCounter implements DirectionUse {
  packets = 0;
  bytes = 0;
  dropped = 0;
  errors = 0;

  count(lengthBytes: number): void {
    this.packets++;
    this.bytes += lengthBytes;
  }
}

export interface NetworkUse {
  readonly receive: DirectionUse;
  readonly transmit: DirectionUse;
}
