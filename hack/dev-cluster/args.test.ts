import { describe, expect, it } from "@jest/globals";
import { parseCommandLine, UsageError } from "./args.ts";

describe("the command line of hack/cluster", () => {
  it("reads options before and behind the command", () => {
    expect(parseCommandLine(["up", "--nodes", "qemu", "--workers=3", "--node-memory", "4G", "--name", "big"])).toEqual({
      command: "up",
      flavour: "qemu",
      workers: 3,
      nodeMemoryMiB: 4096,
      name: "big",
      rest: [],
    });
    expect(parseCommandLine(["--name", "big", "load-image", "a.tar", "b.tar"])).toMatchObject({
      name: "big",
      rest: ["a.tar", "b.tar"],
    });
  });

  it.each([
    ["ipv4", ["IPv4"]],
    ["ipv6", ["IPv6"]],
    ["ipv6,ipv4", ["IPv6", "IPv4"]],
  ])("takes families %s in their order", (list, families) => {
    expect(parseCommandLine(["up", "--ip-families", list]).families).toEqual(families);
  });

  it("adds Multus to a cluster where it is asked for", () => {
    expect(parseCommandLine(["up", "--multus"])).toEqual({ command: "up", multus: true, rest: [] });
    expect(parseCommandLine(["up", "--nodes", "qemu", "--multus"])).toMatchObject({ flavour: "qemu", multus: true });
    expect(parseCommandLine(["up"])).not.toHaveProperty("multus");
  });

  it("has NetworkPolicies enforced where it is asked for", () => {
    expect(parseCommandLine(["up", "--network-policies"])).toMatchObject({ networkPolicies: true });
    expect(parseCommandLine(["up"])).not.toHaveProperty("networkPolicies");
  });

  it.each(["kubectl", "helm", "ssh"])("leaves everything behind %s alone", (command) => {
    const rest = ["get", "--name", "x", "-n", "y", "--help", "--", "z"];
    expect(parseCommandLine(["--name", "dev", command, ...rest])).toEqual({ command, name: "dev", rest });
    expect(parseCommandLine([command, "--", ...rest]).rest).toEqual(rest);
  });

  it("does not take an option's value for the command", () => {
    expect(parseCommandLine(["--name", "status", "down"])).toMatchObject({ command: "down", name: "status" });
  });

  it("takes the name from the environment where none is given", () => {
    const env = { TYPEVISOR_CLUSTER: "from-env" };
    expect(parseCommandLine(["status"], env).name).toBe("from-env");
    expect(parseCommandLine(["status", "--name", "given"], env).name).toBe("given");
    expect(parseCommandLine(["status"], { TYPEVISOR_CLUSTER: "" }).name).toBeUndefined();
  });

  it.each([[[]], [["--help"]], [["help"]], [["up", "-h"]]])("shows help for %j", (argv) => {
    expect(parseCommandLine(argv).command).toBe("help");
  });

  it.each([
    [["start"], "'start' is not a command"],
    [["up", "--nodes", "kind"], "--nodes is 'native' or 'qemu', not 'kind'"],
    [["up", "--name", "../etc"], "--name is at most 20 small letters"],
    [["up", "--name", "a23456789012345678901"], "--name is at most 20"],
    [["up", "--nodes", "native", "--workers", "2"], "--workers is for --nodes qemu"],
    [["up", "--workers", "0"], "--workers is a number from 1 to 9"],
    [["up", "--node-memory", "512M"], "--node-memory is a size of at least 1G"],
    [["up", "--node-memory", "3"], "--node-memory is a size"],
    [["up", "--ip-families", "ipv4,ipv4"], "--ip-families is one of ipv4 ipv6 ipv4,ipv6 ipv6,ipv4, not 'ipv4,ipv4'"],
    [["up", "--ip-families", "constructor"], "--ip-families is one of"],
    [["up", "--nodes", "native", "--network-policies"], "--network-policies is for qemu clusters"],
    [["up", "--force"], "--force"],
  ])("refuses %j", (argv, message) => {
    expect(() => parseCommandLine(argv)).toThrow(UsageError);
    expect(() => parseCommandLine(argv)).toThrow(message);
  });
});
