import { bool, record, u53 } from "../../codec/codec.ts";

/** Of a disk beside its queues. The size is only compared: a disk that goes on elsewhere is as large. */
export const blockStateCodec = record({ capacityBytes: u53(), writeback: bool });
