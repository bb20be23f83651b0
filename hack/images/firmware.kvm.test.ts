import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "@jest/globals";
import { handleSource } from "../../launcher/src/boot/file-source.ts";
import { PVH_START_INFO } from "../../launcher/src/boot/x86/layout.ts";
import { TestBoard } from "../../launcher/src/machine/testing/test-board.ts";
import { gpa } from "../../launcher/src/memory/gpa.ts";
import { firmwareDirectory, firmwareFile } from "./firmware.ts";

/** Where EDK2's first instructions note the start info, and that they were entered by PVH (OvmfPkg/CloudHv/CloudHvX64.fdf). */
const NOTED_START_INFO = gpa(0x80_f000);
const NOTED_ENTRY = gpa(0x80_f004);
const XPVH = Buffer.from("XPVH").readUInt32LE();

it("the firmware starts at its PVH entry, and finds the start info", async () => {
  await using file = await open(join(await firmwareDirectory(), firmwareFile));
  using machine = await TestBoard.make({ kernel: await handleSource(firmwareFile, file) });
  const { memory } = machine.board;
  expect(memory.readU32(gpa(0x10_0000))).toBe(Buffer.from("\x7fELF", "latin1").readUInt32LE());
  machine.runner.run();
  // What it does next depends on the processor: emulated kernel code ends at the first floating-point instruction.
  await machine.until(() => memory.readU32(NOTED_ENTRY) === XPVH, "the firmware's first note");
  expect(memory.readU32(NOTED_START_INFO)).toBe(PVH_START_INFO);
}, 120_000);
