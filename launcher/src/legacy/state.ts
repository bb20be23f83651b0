import { bool, bytes, record, u8, u16, u53, type ValueOf } from "../codec/codec.ts";

/** A 16550A. Whether it interrupts follows from its registers. */
export const serialStateCodec = record({
  received: bytes(16),
  interruptEnable: u8,
  fifoControl: u8,
  lineControl: u8,
  modemControl: u8,
  scratch: u8,
  divisor: u16,
  overrun: bool,
  transmitterEmptyPending: bool,
  modemDeltas: u8,
});
export type SerialState = ValueOf<typeof serialStateCodec>;

export const keyboardStateCodec = record({
  configuration: u8,
  /** 256: none. */
  answer: u16,
  /** 256: none. */
  awaiting: u16,
});
export type KeyboardState = ValueOf<typeof keyboardStateCodec>;

/** The devices at fixed ports of an x86 machine. */
export const legacyStateCodec = record({
  serial: serialStateCodec,
  keyboard: keyboardStateCodec,
  cmosIndex: u8,
  debugCode: u8,
  /** Events that the guest has not read. */
  powerEvents: u8,
  /** What the PM timer counts. */
  pmTimerMs: u53(),
});
export type LegacyState = ValueOf<typeof legacyStateCodec>;
