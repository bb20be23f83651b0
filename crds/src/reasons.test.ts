import { describe, expect, it } from "@jest/globals";
import { exitCodes } from "../../launcher/api/control.ts";
import { conditionTypes } from "./condition.ts";
import { reasons } from "./reasons.ts";
import { phases } from "./status.ts";
import { migrationConditionTypes, migrationPhases } from "./virtualmachinemigration.ts";

describe("reasons", () => {
  it.each(Object.entries({ ...reasons, ...conditionTypes, ...phases, ...migrationConditionTypes, ...migrationPhases }))(
    "%s is one word, with a sentence",
    (name, text) => {
      expect(name).toMatch(/^[A-Z][A-Za-z]+$/);
      expect(text).toMatch(/^[A-Z].*\.$/);
    },
  );

  it.each(Object.keys(exitCodes))("explain the launcher's %s", (reason) => {
    expect(reasons).toHaveProperty(reason);
  });
});
