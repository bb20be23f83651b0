import { list, nullable, oneOf, record, u8, u16, uint } from "../../codec/codec.ts";

/** Of an interface beside its queues and features. */
export const netStateCodec = record({
  link: oneOf(["up", "down"]),
  status: u16,
  /** Queue pairs that carry frames. */
  pairs: u8,
  /** Feature bits, where the driver switched offloads after it negotiated. */
  offloads: nullable(list(uint(1, 63), 8)),
});
