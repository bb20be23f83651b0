import { bool, bytes, list, nullable, record, text, u8, u32, u53, type ValueOf } from "../codec/codec.ts";
import { legacyStateCodec } from "../legacy/state.ts";
import { pciFunctionStateCodec, pciHotplugStateCodec } from "../pci/state.ts";
import { STORAGE_STATE_LIMIT_BYTES } from "../storage/storage.ts";
import { virtioPciStateCodec } from "../virtio/transport/state.ts";
import type { BoardState } from "./board-state.ts";

/** What a machine is and has lived through. */
export const factsCodec = record({
  /** The machine's own; a state goes on as nobody else's. */
  uid: text(36),
  launcherVersion: text(64),
  memoryBytes: u53(),
  cpuCount: u8,
  startedAt: nullable(text(32)),
  reboots: u32,
  guestPanicked: bool,
  /** Somebody asked for a pause, which still holds. */
  isPaused: bool,
});
export type MachineFacts = ValueOf<typeof factsCodec>;

/** Bus 0 without what sits in its slots. */
export const busStateCodec = record({
  configAddress: u32,
  bridge: pciFunctionStateCodec,
  hotplug: pciHotplugStateCodec,
});
export type BusState = ValueOf<typeof busStateCodec>;

export const deviceStateCodec = record({
  slot: u8,
  device: virtioPciStateCodec,
  /** Of a disk: the guest was asked to give it up; it came while the guest ran. */
  isUnwanted: bool,
  isNews: bool,
  /** Of a disk: what it knows beyond its files. */
  storage: bytes(STORAGE_STATE_LIMIT_BYTES),
});
export type DeviceState = ValueOf<typeof deviceStateCodec>;

export const devicesStateCodec = record({
  legacy: legacyStateCodec,
  bus: busStateCodec,
  slots: list(deviceStateCodec, 31),
});
export type DevicesState = ValueOf<typeof devicesStateCodec>;

/** A whole machine at one moment, its memory apart. */
export interface MachineSnapshot {
  readonly facts: MachineFacts;
  readonly board: BoardState;
  readonly devices: DevicesState;
}
