/** What a guest's streams have done, for metrics; directions as the guest sees them. */
export class VsockUse {
  /** At this moment, those that are being made included. */
  connections = 0;
  openedByGuest = 0;
  openedByHost = 0;
  /** Connections that were asked for and not had: nobody listens there, or there are too many. */
  refused = 0;
  /** Packets of the guest that were not sound, or of no connection. */
  droppedPackets = 0;
  transmittedBytes = 0;
  receivedBytes = 0;
}
