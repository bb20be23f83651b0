import { run } from "./run.ts";

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interrupted.abort());
// Whoever read our output has left, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

const { argv, env, execPath, stderr, stdin, stdout } = process;
run(argv.slice(2), {
  stdin,
  stdout,
  stderr,
  variables: env,
  now: Date.now,
  signal: interrupted.signal,
  self: [execPath, argv[1] ?? ""],
}).then(
  (code) => {
    process.exitCode = code;
    // A paused terminal keeps the process from ending.
    stdin.destroy();
  },
  (error: unknown) => {
    stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = 1;
  },
);
