import { describe, expect, it } from "@jest/globals";
import { fieldPaths } from "../field-paths.ts";
import { knownFields } from "../known-fields.ts";
import { virtualMachineCrd } from "./virtualmachine-crd.ts";
import { virtualMachineImageCrd } from "./virtualmachineimage-crd.ts";
import { virtualMachineMigrationCrd } from "./virtualmachinemigration-crd.ts";

describe("the known fields", () => {
  it.each(
    [virtualMachineCrd(), virtualMachineImageCrd(), virtualMachineMigrationCrd()].map(
      ({ spec }) => [spec.names.kind, spec] as const,
    ),
  )("of a %s are all that its schema has, in its order, however they are written", (kind, { versions }) => {
    expect(knownFields[kind]).toEqual(versions.flatMap(({ schema }) => fieldPaths(schema.openAPIV3Schema)));
  });
});
