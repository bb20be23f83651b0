import { join } from "node:path";
import { kernelPackages, unpackedKernel } from "./guest/kernel.ts";
import type { ImageRecipe } from "./image.ts";

/** What tests call by name; `busybox` itself has more. */
const programs = ["cat", "echo", "httpd", "nc", "nslookup", "ping", "sh", "sleep", "wget"];

/** A container that tests reach guests from: busybox, and a web page that says whose it is. */
export const toolbox: ImageRecipe = {
  name: "toolbox",
  about: "busybox in a container, for tests",
  inputs: async (tools) => [{ value: await kernelPackages(tools) }],
  make: async (tools) => ({
    layers: [
      {
        files: [
          { path: "bin/busybox", source: join(await unpackedKernel(tools), "usr/bin/busybox"), mode: 0o755 },
          ...programs.map((program) => ({ path: `bin/${program}`, symlink: "busybox" })),
          { path: "www/hostname", symlink: "/etc/hostname" },
        ],
      },
    ],
    cmd: ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"],
    env: { PATH: "/bin" },
    user: "10002:10002",
  }),
};
