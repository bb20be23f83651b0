import { ClaimRefusedError, RefusedError } from "./act.ts";
import { DeviceRefusedError, interfaceKey } from "./device-refused.ts";
import type { ClaimRefusal, DeviceRefusal, Refusal } from "./observation.ts";
import type { Action } from "./plan.ts";

/** What one machine was refused, until it is had after all. */
export interface MachineRefusals {
  readonly start?: Refusal;
  /** By claim. */
  readonly claims: Readonly<Record<string, ClaimRefusal>>;
  /** By device. */
  readonly devices: Readonly<Record<string, DeviceRefusal>>;
}

const NONE: MachineRefusals = { claims: {}, devices: {} };

/** What machines were refused, by the UIDs of their VirtualMachines. Nothing of it outlives the process. */
export class Refusals {
  readonly #byMachine = new Map<string, MachineRefusals>();

  of(uid: string): MachineRefusals {
    return this.#byMachine.get(uid) ?? NONE;
  }

  /** The machine is gone. */
  forget(uid: string): void {
    this.#byMachine.delete(uid);
  }

  /** False where `error` is no refusal. */
  note(uid: string, error: unknown, nowMs: number): boolean {
    const { start, claims, devices } = this.of(uid);
    if (error instanceof DeviceRefusedError) {
      const { device, message, isPassing } = error;
      const refusal = { message, isPassing, count: (devices[device]?.count ?? 0) + 1, atMs: nowMs };
      this.#change(uid, { devices: { ...devices, [device]: refusal } });
    } else if (error instanceof ClaimRefusedError) {
      const { claimName, requestBytes, message } = error;
      this.#change(uid, { claims: { ...claims, [claimName]: { requestBytes, message, atMs: nowMs } } });
    } else if (error instanceof RefusedError) {
      this.#change(uid, { start: { ...error.refusal, count: (start?.count ?? 0) + 1, atMs: nowMs } });
    } else return false;
    return true;
  }

  /** What an action that was carried out makes void. */
  done(uid: string, action: Action): void {
    const { kind } = action;
    if (kind === "start") {
      const { start: _, ...others } = this.of(uid);
      this.#byMachine.set(uid, others);
    } else if (kind === "attach-disk" || kind === "create-attachment") this.#hasDevice(uid, action.disk.name);
    else if (kind === "attach-interface") this.#hasDevice(uid, interfaceKey(action.config.name));
    else if (kind === "apply-claim") this.#hasClaim(uid, action.claim.metadata?.name ?? "", action.requestBytes);
  }

  #hasDevice(uid: string, device: string): void {
    const { [device]: _, ...devices } = this.of(uid).devices;
    this.#change(uid, { devices });
  }

  #hasClaim(uid: string, claimName: string, requestBytes: number): void {
    const { [claimName]: refusal, ...claims } = this.of(uid).claims;
    if (refusal !== undefined && refusal.requestBytes <= requestBytes) this.#change(uid, { claims });
  }

  #change(uid: string, change: Partial<MachineRefusals>): void {
    this.#byMachine.set(uid, { ...this.of(uid), ...change });
  }
}
