import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { freePorts } from "../../launcher/src/testing/free-ports.ts";
import { layoutOf } from "./layout.ts";
import { freePort, writeState } from "./state.ts";

describe("the port of a new cluster", () => {
  const before = process.env["XDG_STATE_HOME"];
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "state-test-"));
    process.env["XDG_STATE_HOME"] = directory;
  });
  afterEach(() => {
    if (before === undefined) delete process.env["XDG_STATE_HOME"];
    else process.env["XDG_STATE_HOME"] = before;
    rmSync(directory, { recursive: true });
  });

  it("is not that of a cluster that is still coming up, though nobody listens on it yet", async () => {
    const [wanted = 0] = await freePorts(2);
    expect(await freePort(wanted)).toBe(wanted);
    const state = { flavour: "native", workers: 1, nodeMemoryMiB: 1024, families: ["IPv4"] } as const;
    await writeState(layoutOf("other"), { ...state, apiPort: wanted });
    expect(await freePort(wanted)).toBe(wanted + 1);
  });
});
