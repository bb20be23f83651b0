// Virtio 1.2, section 5.10.
export const DEVICE_TYPE_VSOCK = 19;

// Section 5.10.2: virtqueues.
export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;
export const EVENT_QUEUE = 2;

// Section 5.10.3: feature bits.
export const VIRTIO_VSOCK_F_STREAM = 0;

// Section 5.10.4: addresses.
export const HOST_CID = 2;
/** The first that is nobody's by definition. */
export const FIRST_GUEST_CID = 3;
export const U32_LIMIT = 2 ** 32;

// Section 5.10.6: struct virtio_vsock_hdr before each packet.
export const HEADER_BYTES = 44;
export const HeaderOffset = {
  sourceCid: 0,
  destinationCid: 8,
  sourcePort: 16,
  destinationPort: 20,
  lengthBytes: 24,
  type: 28,
  operation: 30,
  flags: 32,
  bufferBytes: 36,
  forwardedBytes: 40,
} as const;
export const VIRTIO_VSOCK_TYPE_STREAM = 1;

export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

// Section 5.10.6.5: flags of a shutdown.
export const VIRTIO_VSOCK_SHUTDOWN_RCV = 1;
export const VIRTIO_VSOCK_SHUTDOWN_SEND = 2;
export const SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

// Section 5.10.6.7: device events.
export const EVENT_BYTES = 4;
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
