/** Commands of the launcher that its image has in the PATH by themselves, for `kubectl exec`. */
export const LAUNCHER_COMMANDS = ["console", "vsock"] as const;
