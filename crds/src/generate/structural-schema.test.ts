import { describe, expect, it } from "@jest/globals";
import { z } from "zod";
import { listMap, withRules } from "../rules.ts";
import { nodeAt, SchemaError, structuralSchema, walk } from "./structural-schema.ts";
import { virtualMachineSchema } from "./virtualmachine-crd.ts";

describe("a structural schema", () => {
  it("leaves objects open and integers without JavaScript's bounds", () => {
    expect(structuralSchema(z.strictObject({ count: z.int(), ratio: z.int().min(1).max(64) }))).toEqual({
      type: "object",
      required: ["count", "ratio"],
      properties: { count: { type: "integer" }, ratio: { type: "integer", minimum: 1, maximum: 64 } },
    });
  });

  it("does not require what has a default", () => {
    const schema = structuralSchema(
      z.strictObject({
        cpu: z.strictObject({ cores: z.int().default(1) }).prefault({}),
        paused: z.boolean().default(false),
      }),
    );
    expect(schema.required).toBeUndefined();
    expect(nodeAt(schema, "cpu").default).toEqual({});
    expect(nodeAt(schema, "cpu.cores").default).toBe(1);
    expect(nodeAt(schema, "paused").default).toBe(false);
  });

  it("writes integer or text exactly as Kubernetes wants it", () => {
    const schema = z.union([z.int(), z.string()]).meta({ "x-kubernetes-int-or-string": true });
    expect(structuralSchema(schema)).toEqual({
      anyOf: [{ type: "integer" }, { type: "string" }],
      "x-kubernetes-int-or-string": true,
    });
  });

  it("keeps rules, list keys and descriptions through optional fields and defaults", () => {
    const name = withRules(z.string().describe("Its name."), { rule: "self != ''", message: "no" });
    const list = listMap(z.array(z.strictObject({ name })).describe("All of them."), "name");
    const schema = structuralSchema(z.strictObject({ a: list.default([]), b: name.exactOptional() }));
    expect(nodeAt(schema, "a")).toMatchObject({
      description: "All of them.",
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["name"],
    });
    expect(nodeAt(schema, "b")["x-kubernetes-validations"]).toEqual([{ rule: "self != ''", message: "no" }]);
  });

  it.each([
    ["a union", z.strictObject({ a: z.union([z.string(), z.boolean()]) }), "a"],
    ["a pattern, whose message helps nobody", z.strictObject({ a: z.array(z.string().regex(/x/)) }), "a[]"],
    ["a value of any type", z.strictObject({ a: z.record(z.string(), z.unknown()) }), "a"],
  ])("refuses %s and says where", (_what, schema, path) => {
    expect(() => structuralSchema(schema)).toThrow(SchemaError);
    expect(() => structuralSchema(schema)).toThrow(new RegExp(`^${path.replace("[]", "\\[\\]")}`));
  });

  it("says so when a path leads nowhere", () => {
    expect(() => nodeAt(virtualMachineSchema(), "spec.disk[]")).toThrow("spec.disk[]: there is no such field");
  });
});

describe("the schema of VirtualMachine", () => {
  const nodes: { path: string; description?: string | undefined }[] = [];
  walk(virtualMachineSchema(), (node, path) => {
    nodes.push({ path, description: node.description });
  });
  // The API server describes metadata; entries of lists and maps are described by their field.
  const fields = nodes.filter(({ path }) => path !== "metadata" && !path.endsWith("[]") && !path.endsWith("{}"));

  it.each(fields)("describes $path in whole sentences", ({ description }) => {
    expect(description).toMatch(/^[A-Z].*\.$/s);
  });

  it("bounds every list that rules look into, so that their cost is bounded", () => {
    walk(virtualMachineSchema(), (node, path) => {
      if (node.type !== "array" || node.items === undefined) return;
      let rules = 0;
      walk(node.items, (inner) => {
        rules += inner["x-kubernetes-validations"]?.length ?? 0;
      });
      if (rules > 0) expect({ path, maxItems: node.maxItems }).toEqual({ path, maxItems: expect.any(Number) });
    });
  });
});
