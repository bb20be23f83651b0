/** Register offsets and bits of the 16550A (National Semiconductor PC16550D data sheet, section 8). */

export const SERIAL = {
  /** Receiver buffer (read), transmitter holding (write); divisor latch low byte while LCR.DLAB. */
  data: 0,
  /** Interrupt enable; divisor latch high byte while LCR.DLAB. */
  interruptEnable: 1,
  /** Interrupt identification (read), FIFO control (write). */
  interruptIdentification: 2,
  fifoControl: 2,
  lineControl: 3,
  modemControl: 4,
  lineStatus: 5,
  modemStatus: 6,
  scratch: 7,
} as const;

export const IER = { received: 0x01, transmitterEmpty: 0x02, lineStatus: 0x04, modemStatus: 0x08 } as const;
export const IER_WRITABLE = 0x0f;

/** Interrupt identifications, most urgent first; `none` has the "no interrupt pending" bit. */
export const IIR = {
  lineStatus: 0x06,
  received: 0x04,
  /** Fewer bytes than the trigger level are in the FIFO, and no more came for a while. */
  characterTimeout: 0x0c,
  transmitterEmpty: 0x02,
  modemStatus: 0x00,
  none: 0x01,
  fifosEnabled: 0xc0,
} as const;

export const FCR = { enable: 0x01, clearReceiver: 0x02, triggerShift: 6 } as const;
/** Bytes in the receive FIFO that raise the "received" interrupt, by FCR bits 7 and 6. */
export const TRIGGER_LEVELS = [1, 4, 8, 14] as const;

export const LCR_DLAB = 0x80;

export const MCR = { dtr: 0x01, rts: 0x02, out1: 0x04, out2: 0x08, loop: 0x10 } as const;
export const MCR_WRITABLE = 0x1f;

export const LSR = { dataReady: 0x01, overrun: 0x02, holdingEmpty: 0x20, transmitterEmpty: 0x40 } as const;

export const MSR = { cts: 0x10, dsr: 0x20, ri: 0x40, dcd: 0x80 } as const;
/** The delta bit of each line is four below it; for RI the trailing edge counts. */
export const MSR_DELTA_SHIFT = 4;
