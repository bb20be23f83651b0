import { bool, bytes, fixedBytes, list, record, u32, u53, type ValueOf } from "../codec/codec.ts";

/** A function's configuration space, and where its BARs are put at reset. */
export const pciFunctionStateCodec = record({
  configuration: fixedBytes(256),
  bootAddresses: list(u53(2 ** 52), 6),
});
export type PciFunctionState = ValueOf<typeof pciFunctionStateCodec>;

/** Message control is in the function's configuration space. */
export const msixStateCodec = record({
  table: bytes(2048 * 16),
  pending: bytes(2048 / 8),
  enabled: bool,
  functionMasked: bool,
});
export type MsixState = ValueOf<typeof msixStateCodec>;

/** Slots that the guest was told of and has not read yet, or was asked to give up; a bit a slot. */
export const pciHotplugStateCodec = record({ plugged: u32, unplug: u32, asked: u32 });
export type PciHotplugState = ValueOf<typeof pciHotplugStateCodec>;
