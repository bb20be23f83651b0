import { describe, expect, it } from "@jest/globals";
import { parseNodeOptions } from "./options.ts";

describe("the options of operator node", () => {
  it("have defaults that fit a usual node", () => {
    expect(parseNodeOptions([])).toEqual({
      deviceCount: 1000,
      agentDir: "/run/typevisor/agent",
      kubeletDir: "/var/lib/kubelet",
      devicePluginDir: "/var/lib/kubelet/device-plugins",
      seccompDir: null,
      cgroupRoot: "/",
      kvmPath: "/dev/kvm",
      httpPort: 8080,
      logLevel: "info",
    });
  });

  it("can name the kubelet's directory of seccomp profiles", () => {
    expect(parseNodeOptions(["--seccomp-dir=/var/lib/kubelet/seccomp"]).seccompDir).toBe("/var/lib/kubelet/seccomp");
  });

  it.each([
    [["--device-count=0"], /--device-count: must be a whole number from 1 to 100000/],
    [["--device-count=many"], /--device-count: must be/],
    [["--agent-dir=run"], /--agent-dir: must be an absolute path/],
    [["--seccomp-dir=seccomp"], /--seccomp-dir: must be an absolute path/],
    [["--http-port=70000"], /--http-port: must be/],
    [["--log-level=trace"], /--log-level: must be one of debug/],
    [["--colour"], /Unknown option '--colour'/],
    [["extra"], /Unexpected argument 'extra'/],
  ])("%j is refused by name", (args, says) => {
    expect(() => parseNodeOptions(args)).toThrow(says);
  });
});
