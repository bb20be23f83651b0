import { bool, bytes, list, nullable, record, text, u8, u16, u32, type ValueOf } from "../../codec/codec.ts";
import { msixStateCodec, pciFunctionStateCodec } from "../../pci/state.ts";
import { DEVICE_STATE_LIMIT_BYTES } from "../device.ts";

/** struct virtio_pci_common_cfg, and what stands behind its selectors. */
export const commonConfigStateCodec = record({
  status: u8,
  generation: u8,
  offerSelect: u32,
  takeSelect: u32,
  driverFeatures: list(u32, 2),
  configVector: u16,
  queueSelect: u16,
  queues: list(record({ size: u16, vector: u16, enabled: bool, addresses: list(u32, 6) }), 128),
});
export type CommonConfigState = ValueOf<typeof commonConfigStateCodec>;

/** Where a queue stands; null where the driver did not enable it. */
const queuePosition = nullable(record({ nextAvailable: u16, nextUsed: u16, signalledUsed: u16 }));

/** One virtio device on the PCI bus, with nothing in flight. */
export const virtioPciStateCodec = record({
  name: text(64),
  deviceType: u16,
  pci: pciFunctionStateCodec,
  msix: msixStateCodec,
  common: commonConfigStateCodec,
  isr: u8,
  /** Null without a driver that is ready. */
  session: nullable(record({ positions: list(queuePosition, 128), device: bytes(DEVICE_STATE_LIMIT_BYTES) })),
});
export type VirtioPciState = ValueOf<typeof virtioPciStateCodec>;
