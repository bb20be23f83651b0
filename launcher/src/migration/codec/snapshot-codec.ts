import { bytes, type Codec, decode, encode, record } from "../../codec/codec.ts";
import { CodecError } from "../../codec/codec-error.ts";
import { boardStateCodec } from "../../machine/board-state.ts";
import { devicesStateCodec, factsCodec, type MachineSnapshot } from "../../machine/snapshot.ts";
import { decodeSections, encodeSections } from "./sections.ts";

/** Numbers of the sections; a number is never given to something else. */
const SECTION = { facts: 1, board: 2, devices: 3, consoles: 4 } as const;

const CONSOLE_LIMIT_BYTES = 16 * 2 ** 20;
const consolesCodec = record({ serial: bytes(CONSOLE_LIMIT_BYTES), virtio: bytes(CONSOLE_LIMIT_BYTES) });

/** What the guest printed last, for those who attach to its consoles later. */
export interface ConsoleHistory {
  readonly serial: Uint8Array;
  readonly virtio: Uint8Array;
}

export interface DecodedState {
  readonly snapshot: MachineSnapshot;
  readonly consoles: ConsoleHistory;
  /** Of the format. */
  readonly version: number;
}

/** A machine and its consoles as bytes. */
export function encodeState(snapshot: MachineSnapshot, consoles: ConsoleHistory): Uint8Array {
  return encodeSections([
    { id: SECTION.facts, payload: encode(factsCodec, snapshot.facts) },
    { id: SECTION.board, payload: encode(boardStateCodec, snapshot.board) },
    { id: SECTION.devices, payload: encode(devicesStateCodec, snapshot.devices) },
    { id: SECTION.consoles, payload: encode(consolesCodec, consoles), isSkippable: true },
  ]);
}

/** Throws CodecError. What it answers is whole and within its limits; whether it fits a machine, that one tells. */
export function decodeState(bytes_: Uint8Array): DecodedState {
  const { version, payloads } = decodeSections(bytes_, new Set(Object.values(SECTION)));
  const part = <Value>(name: keyof typeof SECTION, codec: Codec<Value>): Value => {
    const payload = payloads.get(SECTION[name]);
    if (!payload) throw new CodecError("is missing", name);
    try {
      return decode(codec, payload, version);
    } catch (error) {
      throw error instanceof CodecError ? error.inside(name) : error;
    }
  };
  const snapshot = {
    facts: part("facts", factsCodec),
    board: part("board", boardStateCodec),
    devices: part("devices", devicesStateCodec),
  };
  const hasConsoles = payloads.has(SECTION.consoles);
  const none = new Uint8Array(0);
  return {
    snapshot,
    consoles: hasConsoles ? part("consoles", consolesCodec) : { serial: none, virtio: none },
    version,
  };
}
