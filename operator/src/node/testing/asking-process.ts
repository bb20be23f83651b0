import { readlinkSync } from "node:fs";
import { createInterface } from "node:readline";
import { AskingSocket } from "./asking-socket.ts";

// Asks the agent for what each line of standard input names, and answers with a line.
for await (const line of createInterface(process.stdin)) {
  const { socketPath, want } = JSON.parse(line);
  using socket = new AskingSocket(socketPath);
  const { answer, fds } = await socket.ask(want);
  const targets = fds.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`));
  for (const fd of fds) fd[Symbol.dispose]();
  process.stdout.write(`${JSON.stringify({ answer, targets })}\n`);
}
