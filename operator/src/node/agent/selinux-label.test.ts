import { describe, expect, it } from "@jest/globals";
import type { Logger } from "../../runtime/logger.ts";
import { selinuxLabeller } from "./selinux-label.ts";

const lines: string[] = [];
const note = (_fields: object, message: string) => void lines.push(message);
const log: Logger = { debug: note, info: note, warn: note, error: note };

describe("labels for SELinux", () => {
  it("are set where SELinux is on", () => {
    const calls: string[] = [];
    const label = selinuxLabeller(log, {
      isOn: () => true,
      setAttribute: (path, name, value) => calls.push(`${path} ${name} ${Buffer.from(value).toString("latin1")}`),
    });
    label("/run/typevisor/agent");
    expect(calls).toEqual(["/run/typevisor/agent security.selinux system_u:object_r:container_file_t:s0\0"]);
  });

  it("are left alone where it is off", () => {
    selinuxLabeller(log, {
      isOn: () => false,
      setAttribute: () => {
        throw new Error("called");
      },
    })("/x");
  });

  it("that cannot be set are said, and do not keep the agent from its work", () => {
    selinuxLabeller(log, { isOn: () => true })("/nowhere/agent");
    expect(lines).toEqual([expect.stringContaining("container_file_t")]);
  });
});
