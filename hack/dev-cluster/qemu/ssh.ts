import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { CommandError } from "../../lib/step.ts";
import type { Layout, NodeIdentity } from "../layout.ts";

export function sshCommand(_layout: Layout, _node: NodeIdentity, _command: readonly string[]): string[] {
  throw new Error("not yet");
}

export async function loadQemuImage(_layout: Layout, _node: NodeIdentity, _archive: string): Promise<void> {
  throw new Error("not yet");
}

/** Sends a file into the standard input of a command. */
export async function copyByStream(file: string, command: readonly string[]): Promise<void> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["pipe", "inherit", "inherit"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), child.stdin);
  const code = await ended;
  if (code !== 0) throw new CommandError(command, code, "");
}
