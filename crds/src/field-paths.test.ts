import { describe, expect, it } from "@jest/globals";
import { fieldPaths } from "./field-paths.ts";

describe("fieldPaths", () => {
  it("names fields, of lists and maps too, and the words that are allowed", () => {
    const schema = {
      properties: {
        metadata: { properties: { name: {} } },
        spec: {
          properties: {
            disks: { items: { properties: { name: {}, bus: { enum: ["virtio"] } } } },
            labels: { additionalProperties: {} },
            open: { additionalProperties: true },
          },
        },
        status: { properties: { phase: { enum: ["Running", "Stopped"] } } },
      },
    };
    expect(fieldPaths(schema)).toEqual([
      "spec",
      "spec.disks",
      "spec.disks[]",
      "spec.disks[].name",
      "spec.disks[].bus",
      "spec.disks[].bus=virtio",
      "spec.labels",
      "spec.labels{}",
      "spec.open",
      "status",
      "status.phase",
      "status.phase=Running",
      "status.phase=Stopped",
    ]);
  });
});
