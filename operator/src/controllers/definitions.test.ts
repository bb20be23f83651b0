import { beforeEach, describe, expect, it } from "@jest/globals";
import type { FieldSchema } from "../../../crds/src/field-paths.ts";
import { knownFields } from "../../../crds/src/known-fields.ts";
import { ApiError } from "../runtime/errors.ts";
import { FakeClock } from "../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../runtime/testing/recording-logger.ts";
import { until } from "../runtime/testing/until.ts";
import { Definitions, differences, type OpenApi } from "./definitions.ts";

/** The schema that has these paths, of those that fieldPaths gives. */
function schemaOf(paths: readonly string[]): FieldSchema {
  const steps = paths.map((path) => path.split(/\.|(?=\[\]|\{\}|=)/));
  return nested(steps);
}

function nested(paths: readonly (readonly string[])[]): FieldSchema {
  const below = new Map<string, string[][]>();
  for (const [step, ...rest] of paths) {
    if (step === undefined) continue;
    below.set(step, [...(below.get(step) ?? []), rest]);
  }
  const steps = [...below].map(([step, rest]) => ({ step, schema: nested(rest) }));
  const items = steps.find(({ step }) => step === "[]")?.schema;
  const additionalProperties = steps.find(({ step }) => step === "{}")?.schema;
  const words = steps.filter(({ step }) => step.startsWith("=")).map(({ step }) => step.slice(1));
  const fields = steps.filter(({ step }) => /^\w/.test(step)).map(({ step, schema }) => [step, schema] as const);
  return {
    properties: Object.fromEntries(fields),
    ...(items && { items }),
    ...(additionalProperties && { additionalProperties }),
    enum: words,
  };
}

const published = (kinds: Record<string, Record<string, FieldSchema>>): OpenApi => ({
  components: {
    schemas: Object.fromEntries(
      Object.entries(kinds).map(([kind, status]) => {
        const gvk = [{ group: "typevisor.io", version: "v1alpha1", kind }];
        const schema = { properties: { status: { properties: status } }, "x-kubernetes-group-version-kind": gvk };
        return [`io.typevisor.v1alpha1.${kind}`, schema];
      }),
    ),
  },
});

describe("differences", () => {
  const own = { VirtualMachine: ["spec", "status", "status.phase", "status.phase=Running", "status.node"] };

  it("are none where both have the same", () => {
    const theirs = published({ VirtualMachine: { phase: { enum: ["Running"] }, node: {} } });
    expect(differences(theirs, own)).toEqual({ lacking: [], unknown: [] });
  });

  it("are the fields and words that one side has alone, and kinds that are not defined", () => {
    const theirs = published({ VirtualMachine: { phase: { enum: ["Paused"] }, later: {} } });
    expect(differences(theirs, { ...own, Other: ["spec"] })).toEqual({
      lacking: ["VirtualMachine status.phase=Running", "VirtualMachine status.node", "Other"],
      unknown: ["VirtualMachine status.phase=Paused", "VirtualMachine status.later"],
    });
  });
});

describe("Definitions", () => {
  let clock: FakeClock;
  let logger: RecordingLogger;
  let answers: (() => OpenApi)[];
  let stop: AbortController;
  beforeEach(() => {
    clock = new FakeClock();
    logger = new RecordingLogger();
    stop = new AbortController();
  });
  const make = () => {
    const openApi = async <T>() => (answers.length > 1 ? answers.shift() : answers[0])?.() as T;
    return new Definitions({ client: { openApi }, clock, logger });
  };
  const fails = (code: number) => () => {
    throw new ApiError(code, {}, "GET /openapi");
  };
  const nextLook = async () => {
    await until(() => clock.nextTimerMs !== undefined);
    clock.advance(5_000);
  };

  it("keep the operator waiting while they are not there, or old, and say so once each", async () => {
    answers = [fails(404), fails(404), () => published({ VirtualMachine: {} }), fails(403)];
    const definitions = make();
    const fit = definitions.fit(stop.signal);
    await until(
      () => definitions.problem?.startsWith("the cluster has no definitions of typevisor.io/v1alpha1") === true,
    );
    await nextLook();
    await nextLook();
    await until(() => definitions.problem?.includes("older than this operator") === true);
    expect(definitions.problem).toMatch(/they lack VirtualMachine spec\.\S+, .*and \d+ more; apply those of version/);
    await nextLook();
    expect(await fit).toBe(true);
    expect(definitions.problem).toBeUndefined();
    const levels = logger.lines.map(({ level }) => level);
    expect(levels).toEqual(["error", "error", "warn"]);
  });

  it("that are newer than the operator do not keep it from its work, and are told once", async () => {
    const schemas = Object.entries(knownFields).map(([kind, paths]) => {
      const newer = schemaOf([...paths, "spec.later", "status.phase=Later"]);
      return [kind, { ...newer, "x-kubernetes-group-version-kind": [{ kind }] }] as const;
    });
    answers = [() => ({ components: { schemas: Object.fromEntries(schemas) } })];
    const definitions = make();
    expect(await definitions.fit(stop.signal)).toBe(true);
    expect(definitions.problem).toBeUndefined();
    expect(logger.lines).toMatchObject([
      {
        level: "warn",
        fields: { unknown: expect.arrayContaining(schemas.map(([kind]) => `${kind} spec.later`)) },
      },
    ]);
  });

  it("are looked at no more when the operator is to stop", async () => {
    answers = [fails(500)];
    const definitions = make();
    const fit = definitions.fit(stop.signal);
    await until(() => definitions.problem?.includes("cannot be read") === true);
    stop.abort();
    expect(await fit).toBe(false);
  });
});
