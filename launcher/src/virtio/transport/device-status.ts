// Virtio 1.2, section 2.1.
export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_NEEDS_RESET = 0x40;
export const STATUS_FAILED = 0x80;

const FOUND = STATUS_ACKNOWLEDGE;
const KNOWN = FOUND | STATUS_DRIVER;
const NEGOTIATED = KNOWN | STATUS_FEATURES_OK;
const READY = NEGOTIATED | STATUS_DRIVER_OK;

/** Steps of section 3.1.1 that a driver may take from each status, besides reset and FAILED. */
const STEPS: ReadonlyMap<number, readonly number[]> = new Map([
  // Some firmware says both at once.
  [0, [FOUND, KNOWN]],
  [FOUND, [KNOWN]],
  [KNOWN, [NEGOTIATED]],
  [NEGOTIATED, [READY]],
  [READY, []],
]);

/** Those that a driver can reach, failures apart. */
export const STATUSES: ReadonlySet<number> = new Set(STEPS.keys());

export type StatusStep = "reset" | "ignored" | number;

/** What a driver's write of `written` makes of `current`: a new status, a reset, or nothing where the step is illegal. */
export function statusStep(current: number, written: number): StatusStep {
  if (written === 0) return "reset";
  const wanted = written & ~STATUS_NEEDS_RESET;
  if ((current & (STATUS_NEEDS_RESET | STATUS_FAILED)) !== 0) return "ignored";
  if (wanted === (current | STATUS_FAILED)) return wanted;
  return STEPS.get(current)?.includes(wanted) ? wanted : "ignored";
}

/** Feature bits may be written. */
export function isNegotiating(status: number): boolean {
  return status === KNOWN;
}

/** Queues may be set up. */
export function isSettingUp(status: number): boolean {
  return status === NEGOTIATED;
}
