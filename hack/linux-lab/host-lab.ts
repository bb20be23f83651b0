import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { firmwareDirectory, firmwareFile } from "../images/firmware.ts";
import { run } from "../lib/step.ts";
import { unpackedGuests } from "./guest-images.ts";
import type { LinuxLab } from "./lab.ts";
import { requireLauncher } from "./launcher-bundle.ts";

/** This machine as the lab, where its own KVM is fit for Linux. */
export async function openHostLab(): Promise<LinuxLab> {
  const scratch = "/var/tmp/typevisor-lab";
  await mkdir(scratch, { recursive: true });
  return {
    kind: "host",
    paths: {
      node: process.execPath,
      guests: (await unpackedGuests()).directory,
      firmware: join(await firmwareDirectory(), firmwareFile),
      scratch,
    },
    installLauncher: async () => (await requireLauncher()).directory,
    run: (line, input) => run(["sh", "-c", line], input === undefined ? {} : { input }),
    start: (line) => spawn("sh", ["-c", line], { stdio: ["ignore", "pipe", "pipe"] }),
    reach: async (path) => ({ path, [Symbol.asyncDispose]: async () => {} }),
    kernelComplaint: async () => undefined,
    restart: async () => {
      throw new Error("the lab is this machine itself, which is not restarted");
    },
  };
}
