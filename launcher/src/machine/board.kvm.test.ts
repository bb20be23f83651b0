import { describe, expect, it } from "@jest/globals";
import { TestBoard } from "./testing/test-board.ts";

describe("a board", () => {
  it.each(["pvh", "linux64"] as const)("runs a kernel that is entered by %s", async (entry) => {
    using machine = await TestBoard.make({ entry, commands: "echo hello" });
    machine.runner.run();
    await machine.said(`TYPEVISOR TESTGUEST READY ${entry}`);
    await machine.said("hello\r\n");
    expect(machine.events).toEqual([]);
  });
});
