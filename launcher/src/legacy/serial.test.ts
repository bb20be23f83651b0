import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { SerialPort } from "./serial.ts";
import { IER, IIR, LCR_DLAB, LSR, MCR, MSR, SERIAL } from "./serial-registers.ts";
import { RecordingBackend, RecordingIrq, readByte, writeByte } from "./testing.ts";

const ENABLE_FIFOS = 0x01;
const CLEAR_RECEIVER = 0x02;
const TRIGGER_8 = 0x80;
const IIR_FIFOS = IIR.fifosEnabled;

function makePort() {
  const irq = new RecordingIrq();
  const backend = new RecordingBackend();
  const serial = new SerialPort(irq, backend);
  const read = (register: number) => readByte(serial.ports, register);
  const write = (register: number, value: number) => writeByte(serial.ports, register, value);
  const send = (text: string) => {
    for (const character of text) write(SERIAL.data, character.charCodeAt(0));
  };
  const receive = () => {
    let text = "";
    while (read(SERIAL.lineStatus) & LSR.dataReady) text += String.fromCharCode(read(SERIAL.data));
    return text;
  };
  return { irq, backend, serial, read, write, send, receive };
}

describe("serial port", () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  describe("as Linux' 8250 driver probes it", () => {
    it("keeps the four interrupt enable bits and no other", () => {
      const { read, write } = makePort();
      write(SERIAL.interruptEnable, 0xff);
      expect(read(SERIAL.interruptEnable)).toBe(0x0f);
    });

    it("shows FIFOs as a 16550A does once they are enabled", () => {
      const { read, write } = makePort();
      expect(read(SERIAL.interruptIdentification)).toBe(IIR.none);
      write(SERIAL.fifoControl, ENABLE_FIFOS);
      expect(read(SERIAL.interruptIdentification)).toBe(IIR_FIFOS | IIR.none);
    });

    it("routes modem outputs to modem inputs in loopback", () => {
      const { read, write } = makePort();
      write(SERIAL.modemControl, MCR.loop | MCR.out2 | MCR.rts);
      expect(read(SERIAL.modemStatus) & 0xf0).toBe(MSR.dcd | MSR.cts);
    });

    it("raises the transmitter interrupt again when it is enabled again", () => {
      const { read, write } = makePort();
      for (let i = 0; i < 2; i++) {
        write(SERIAL.interruptEnable, IER.transmitterEmpty);
        expect(read(SERIAL.interruptIdentification)).toBe(IIR.transmitterEmpty);
        write(SERIAL.interruptEnable, 0);
      }
    });

    it("keeps the divisor behind DLAB, and sends nothing while it is set", () => {
      const { backend, serial, read, write } = makePort();
      write(SERIAL.lineControl, LCR_DLAB | 3);
      write(SERIAL.data, 0x34);
      write(SERIAL.interruptEnable, 0x12);
      expect([read(SERIAL.data), read(SERIAL.interruptEnable)]).toEqual([0x34, 0x12]);
      write(SERIAL.lineControl, 3);
      expect(read(SERIAL.interruptEnable)).toBe(0);
      serial.flush();
      expect(backend.text).toBe("");
    });

    it("remembers the scratch register", () => {
      const { read, write } = makePort();
      write(SERIAL.scratch, 0xa5);
      expect(read(SERIAL.scratch)).toBe(0xa5);
    });
  });

  describe("sending", () => {
    it("is always ready", () => {
      const { read } = makePort();
      expect(read(SERIAL.lineStatus)).toBe(LSR.holdingEmpty | LSR.transmitterEmpty);
    });

    it("hands many bytes to the backend in one call, a moment later", () => {
      const { backend, send } = makePort();
      send("hello\r\n");
      expect(backend.calls).toBe(0);
      jest.runOnlyPendingTimers();
      expect([backend.text, backend.calls]).toEqual(["hello\r\n", 1]);
    });

    it("makes one call for each 4096 bytes of a flood", () => {
      const { backend, send } = makePort();
      send("x".repeat(3 * 4096));
      expect([backend.text.length, backend.calls]).toEqual([3 * 4096, 3]);
    });

    it("hands over what is left when it is disposed", () => {
      const { backend, serial, send } = makePort();
      send("last words");
      serial[Symbol.dispose]();
      expect(backend.text).toBe("last words");
      expect(jest.getTimerCount()).toBe(0);
    });

    it("gives an edge for each byte while the transmitter interrupt is enabled", () => {
      const { irq, read, write, send } = makePort();
      write(SERIAL.modemControl, MCR.out2);
      write(SERIAL.interruptEnable, IER.transmitterEmpty);
      expect(irq.edges).toBe(1);
      send("ab");
      expect(irq.edges).toBe(3);
      read(SERIAL.interruptIdentification);
      expect(irq.asserted).toBe(false);
    });

    it("splits a wide access into bytes", () => {
      const { backend, serial, read } = makePort();
      serial.ports.write(SERIAL.data, Uint8Array.of(0x41, 0x05));
      serial.flush();
      expect([backend.text, read(SERIAL.interruptEnable)]).toEqual(["A", 0x05]);
      const both = new Uint8Array(2);
      serial.ports.read(SERIAL.interruptEnable, both);
      expect([...both]).toEqual([0x05, IIR.none]);
    });
  });

  describe("receiving", () => {
    it("takes 16 bytes with FIFOs, one without, and leaves the rest with the backend", () => {
      const { backend, write, receive } = makePort();
      backend.type("ab");
      expect(backend.waiting).toBe("b");
      expect(receive()).toBe("ab");
      write(SERIAL.fifoControl, ENABLE_FIFOS);
      backend.type("0123456789abcdefXYZ");
      expect(backend.waiting).toBe("XYZ");
      expect(receive()).toBe("0123456789abcdefXYZ");
    });

    it("tells a filled FIFO from a few bytes that waited", () => {
      const { backend, read, write } = makePort();
      write(SERIAL.fifoControl, ENABLE_FIFOS | TRIGGER_8);
      write(SERIAL.interruptEnable, IER.received);
      backend.type("1234567");
      expect(read(SERIAL.interruptIdentification)).toBe(IIR_FIFOS | IIR.characterTimeout);
      backend.type("8");
      expect(read(SERIAL.interruptIdentification)).toBe(IIR_FIFOS | IIR.received);
    });

    it("holds the interrupt until the last byte is read", () => {
      const { irq, backend, read, write } = makePort();
      write(SERIAL.fifoControl, ENABLE_FIFOS);
      write(SERIAL.modemControl, MCR.out2);
      write(SERIAL.interruptEnable, IER.received);
      backend.type("ab");
      expect(irq.asserted).toBe(true);
      read(SERIAL.data);
      expect(irq.asserted).toBe(true);
      read(SERIAL.data);
      expect(irq.asserted).toBe(false);
    });

    it("does not interrupt while OUT2 leaves the line open", () => {
      const { irq, backend, write } = makePort();
      write(SERIAL.interruptEnable, IER.received);
      backend.type("a");
      expect(irq.asserted).toBe(false);
      write(SERIAL.modemControl, MCR.out2);
      expect(irq.asserted).toBe(true);
    });

    it("goes on with waiting input after the FIFO was cleared", () => {
      const { backend, write, receive } = makePort();
      write(SERIAL.fifoControl, ENABLE_FIFOS);
      backend.type("0123456789abcdefXYZ");
      write(SERIAL.fifoControl, ENABLE_FIFOS | CLEAR_RECEIVER);
      expect(receive()).toBe("XYZ");
    });

    it("drops what the FIFO holds when it is switched off", () => {
      const { backend, write, receive } = makePort();
      write(SERIAL.fifoControl, ENABLE_FIFOS);
      backend.type("abc");
      write(SERIAL.fifoControl, 0);
      expect(receive()).toBe("");
    });

    it("keeps input outside while in loopback, and reports an overrun once", () => {
      const { backend, read, write, send, receive } = makePort();
      write(SERIAL.modemControl, MCR.loop);
      backend.type("later");
      send("AB");
      expect(read(SERIAL.lineStatus) & (LSR.overrun | LSR.dataReady)).toBe(LSR.overrun | LSR.dataReady);
      expect(read(SERIAL.lineStatus) & LSR.overrun).toBe(0);
      expect(receive()).toBe("A");
      expect(backend.text).toBe("");
      write(SERIAL.modemControl, 0);
      expect(receive()).toBe("later");
    });
  });

  it("counts a change of modem lines until the status is read", () => {
    const { read, write } = makePort();
    write(SERIAL.modemControl, MCR.loop);
    read(SERIAL.modemStatus);
    write(SERIAL.modemControl, MCR.loop | MCR.dtr | MCR.out1);
    expect(read(SERIAL.modemStatus)).toBe(MSR.dsr | MSR.ri | (MSR.dsr >>> 4));
    write(SERIAL.modemControl, MCR.loop | MCR.dtr);
    expect(read(SERIAL.modemStatus)).toBe(MSR.dsr | (MSR.ri >>> 4));
    expect(read(SERIAL.modemStatus)).toBe(MSR.dsr);
  });

  it("is as new after a reset, whatever a guest did before", () => {
    const access = fc.tuple(fc.nat(7), fc.nat(255), fc.boolean());
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { irq, serial, read, write } = makePort();
        for (const [register, value, isWrite] of accesses) isWrite ? write(register, value) : read(register);
        serial.reset();
        expect(irq.asserted).toBe(false);
        const fresh = makePort();
        const registers = [0, 1, 2, 3, 4, 5, 6, 7];
        expect(registers.map(read)).toEqual(registers.map(fresh.read));
      }),
    );
  });

  it("survives any access, and its line always says what its registers say", () => {
    const access = fc.record({
      offset: fc.nat(7),
      data: fc.uint8Array({ minLength: 1, maxLength: 8 }),
      isWrite: fc.boolean(),
      input: fc.string({ maxLength: 20 }),
    });
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { irq, backend, serial, read } = makePort();
        for (const { offset, data, isWrite, input } of accesses) {
          if (input) backend.type(input);
          isWrite ? serial.ports.write(offset, data) : serial.ports.read(offset, data);
          const before = irq.asserted;
          const pending = (read(SERIAL.interruptIdentification) & IIR.none) === 0;
          const connected = (read(SERIAL.modemControl) & (MCR.out2 | MCR.loop)) === MCR.out2;
          expect(before).toBe(pending && connected);
        }
      }),
    );
  });
});
