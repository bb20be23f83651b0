import { type ChildProcess, spawn } from "node:child_process";
import type { Kubectl } from "../../e2e/support/kubectl.ts";
import { podOf } from "../../e2e/support/vm.ts";
import { ConsoleUser } from "../lib/guest-console.ts";

/** The console of a machine in a cluster, as `kubectl exec` shows it, with what was said there before. */
export class MachineConsole extends ConsoleUser implements Disposable {
  readonly #child: ChildProcess;

  private constructor(child: ReturnType<typeof start>) {
    super(child.stdout, child.stdin);
    this.#child = child;
  }

  static open(kubectl: Kubectl, name: string): MachineConsole {
    return new MachineConsole(start(kubectl, name));
  }

  [Symbol.dispose](): void {
    this.close();
    this.#child.kill();
  }
}

function start(kubectl: Kubectl, name: string) {
  const [program = "", ...args] = kubectl.argv("exec", "--stdin", podOf(name), "--", "console");
  return spawn(program, args, { stdio: ["pipe", "pipe", "ignore"] });
}
