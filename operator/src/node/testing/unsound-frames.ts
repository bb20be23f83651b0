import { type Ends, toTap, udpFrame } from "./frames.ts";
import { type NetworkLab, seenBy } from "./network-lab.ts";

const REFUSED = "refused";
const LARGE = "large";
const ports = { from: 9, to: 9 };
const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const TRANSPORT = ETHERNET_BYTES + IPV4_BYTES;
/** More than the link takes, and nearly as much as a TAP takes in one piece. */
const [MORE_BYTES, MOST_BYTES] = [3000, 65_000];

/** Of the header in virtio 1.2, section 5.1.6. */
interface VnetHeader {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly gsoSize?: number;
  readonly checksumStart?: number;
  readonly checksumOffset?: number;
}
const NEEDS_CHECKSUM = 1;
const GSO = { tcpv4: 1, unknown: 2, tcpv6: 4 } as const;
const summed = { flags: NEEDS_CHECKSUM, checksumStart: TRANSPORT, checksumOffset: UDP_CHECKSUM } as const;

/** The sizes of packets that the node has seen, in bytes. */
export interface SeenOfUnsound {
  /** Of frames that no TAP takes. */
  readonly refused: readonly number[];
  /** Of frames larger than the link, or said to be segments that they are not; they may be lost, or cut into pieces. */
  readonly large: readonly number[];
}

/** Has the guest send what are no sound frames, as vhost-net or a launcher gives them to its TAP, and then a sound one. */
export async function sendUnsound(lab: NetworkLab, ends: Ends): Promise<SeenOfUnsound> {
  const send = async () => {
    for (const frame of [...refusedFrames(ends), ...largeFrames(ends)]) await lab.send(frame);
    await lab.send(toTap(udpFrame(ends, ports, "sound")));
  };
  const seen = await seenBy(lab.node, send, new RegExp(hex("sound")));
  const sizes = (text: string) => seen.filter((each) => each.includes(hex(text))).map(({ length }) => length / 2);
  return { refused: sizes(REFUSED), large: sizes(LARGE) };
}

function refusedFrames(ends: Ends): readonly string[] {
  const short = udpFrame(ends, ports, REFUSED);
  const large = udpFrame(ends, ports, REFUSED.repeat(MORE_BYTES / REFUSED.length));
  return [
    toTap(Buffer.alloc(0)),
    toTap(Buffer.alloc(0)).slice(0, 10),
    toTap(short.subarray(0, ETHERNET_BYTES - 1)),
    withHeader({ ...summed, checksumStart: short.length }, short),
    withHeader({ ...summed, checksumStart: 0xffff, checksumOffset: 0xffff }, short),
    withHeader({ ...summed, gsoType: GSO.tcpv4, gsoSize: 0 }, large),
    withHeader({ ...summed, gsoType: GSO.unknown, gsoSize: 1000 }, large),
  ];
}

function largeFrames(ends: Ends): readonly string[] {
  const [more, most] = [MORE_BYTES, MOST_BYTES].map((bytes) =>
    udpFrame(ends, ports, LARGE.repeat(bytes / LARGE.length)),
  ) as [Buffer, Buffer];
  return [
    toTap(more),
    toTap(most),
    withHeader({ ...summed, gsoType: GSO.tcpv4, gsoSize: 1000 }, more),
    withHeader({ ...summed, gsoType: GSO.tcpv6, gsoSize: 1000 }, more),
    withHeader({ gsoType: GSO.tcpv4, gsoSize: 1000 }, more),
    withHeader({ ...summed, gsoType: GSO.tcpv4, gsoSize: 1 }, most),
    withHeader({ ...summed, gsoType: GSO.tcpv4, gsoSize: 0xffff }, most),
  ];
}

function withHeader(fields: VnetHeader, frame: Uint8Array): string {
  const header = Buffer.alloc(12);
  header.writeUInt8(fields.flags ?? 0, 0);
  header.writeUInt8(fields.gsoType ?? 0, 1);
  header.writeUInt16LE(TRANSPORT + UDP_BYTES, 2);
  header.writeUInt16LE(fields.gsoSize ?? 0, 4);
  header.writeUInt16LE(fields.checksumStart ?? 0, 6);
  header.writeUInt16LE(fields.checksumOffset ?? 0, 8);
  return Buffer.concat([header, frame]).toString("hex");
}

function hex(text: string): string {
  return Buffer.from(text).toString("hex");
}
