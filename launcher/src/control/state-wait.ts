import type { LauncherStatus, MachineState } from "../../api/control.ts";
import type { MachineControls } from "../machine/control-surface.ts";
import { RequestRefused } from "./api-error.ts";

/**
 * Resolves with the status once the machine is in one of `states`, which may be now. Refuses with Timeout after
 * `timeoutMs`, with Conflict when the machine ends in another state, and rejects when `signal` aborts.
 */
export function waitForState(
  machine: MachineControls,
  states: ReadonlySet<MachineState>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<LauncherStatus> {
  const wanted = [...states].join(" or ");
  return new Promise((resolve, reject) => {
    using cleanup = new DisposableStack();
    const settle = (action: () => void) => {
      release.dispose();
      action();
    };
    const look = () => {
      const status = machine.status();
      if (states.has(status.state)) settle(() => resolve(status));
      else if (status.state === "Ended")
        settle(() => reject(new RequestRefused("Conflict", `the machine has ended: ${status.message}`)));
    };
    const timer = setTimeout(() => {
      const { state } = machine.status();
      const message = `the machine is ${state}, not ${wanted}, after ${timeoutMs} ms`;
      settle(() => reject(new RequestRefused("Timeout", message)));
    }, timeoutMs);
    cleanup.defer(() => clearTimeout(timer));
    cleanup.use(machine.onState(look));
    const aborted = () => settle(() => reject(signal.reason));
    signal.addEventListener("abort", aborted);
    cleanup.defer(() => signal.removeEventListener("abort", aborted));
    const release = cleanup.move();
    look();
  });
}
