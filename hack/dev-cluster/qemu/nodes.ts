export async function qemuAcceleration(): Promise<string> {
  throw new Error("not yet");
}
export async function ensureQemuNodes(..._args: unknown[]): Promise<void> {
  throw new Error("not yet");
}
