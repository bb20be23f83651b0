// Virtio 1.2, section 5.2.

export const DEVICE_TYPE_BLOCK = 2;

export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

// Section 5.2.6: types of requests.
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

/** struct virtio_blk_req: type, reserved, sector; the data and the status byte follow. */
export const REQUEST_HEADER_BYTES = 16;
/** Length of the answer to GET_ID. */
export const ID_BYTES = 20;

/** struct virtio_blk_discard_write_zeroes: sector (8), number of sectors (4), flags (4). */
export const RANGE_BYTES = 16;
export const RANGE_FLAG_UNMAP = 1;

/** Offsets in struct virtio_blk_config. */
export const ConfigOffset = {
  capacity: 0,
  segMax: 12,
  blkSize: 20,
  physicalBlockExponent: 24,
  minIoSize: 26,
  writeback: 32,
  queueCount: 34,
  maxDiscardSectors: 36,
  maxDiscardSegments: 40,
  discardAlignment: 44,
  maxWriteZeroesSectors: 48,
  maxWriteZeroesSegments: 52,
  writeZeroesMayUnmap: 56,
} as const;
export const CONFIG_SIZE = 60;
