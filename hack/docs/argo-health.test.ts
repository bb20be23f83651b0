import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { UNSEEN_STATUS } from "../../crds/src/condition.ts";
import { decide } from "../../operator/src/controllers/virtualmachine/decide.ts";
import type { Observation } from "../../operator/src/controllers/virtualmachine/observation.ts";
import {
  endedPod,
  lastWord,
  launcherSays,
  machine,
  NOW_MS,
  observation,
  podOf,
  settings,
} from "../../operator/src/controllers/virtualmachine/testing/fixtures.ts";

const script = readFileSync(join(import.meta.dirname, "../../docs/gitops/health.lua"), "utf8");

/** What Argo CD makes of an object: it runs the script in Lua 5.1 with the object as `obj`. */
function healthOf(object: object): { status: string; message: string } {
  const program = `local function judge(obj)\n${script}\nend\nlocal health = judge(${lua(object)})\nprint(health.status)\nprint(health.message)`;
  const [status = "", ...message] = execFileSync("lua5.1", ["-"], { input: program, encoding: "utf8" }).split("\n");
  return { status, message: message.join("\n").trim() };
}

function lua(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(lua).join(",")}}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "nil";
  return `{${Object.entries(value).map(([key, item]) => `[${JSON.stringify(key)}]=${lua(item)}`)}}`;
}

/** A machine with the status that the operator gives it. */
function told(parts: Partial<Observation>, spec: Parameters<typeof machine>[0] = {}): object {
  const vm = machine(spec);
  const write = decide(observation(vm, parts), settings, NOW_MS).actions.find(({ kind }) => kind === "write-status");
  return { ...vm, status: write?.kind === "write-status" ? write.status : undefined };
}

describe("the health script for Argo CD", () => {
  const vm = machine();
  const pod = podOf(vm, "running");
  const running = { pod, launcher: launcherSays(pod, {}) };
  const panicked = { pod, launcher: launcherSays(pod, { guestPanicked: true }) };

  it.each<[string, object, string, RegExp]>([
    ["one that nobody has seen", { ...vm, status: UNSEEN_STATUS }, "Progressing", /Waits for Typevisor/],
    ["one without any status", vm, "Progressing", /Waits for Typevisor/],
    ["one that starts", told({ pod: podOf(vm, "scheduled") }), "Progressing", /./],
    ["one that runs", told(running), "Healthy", /The guest runs on node/],
    ["one that is off and shall be", told({}, { runStrategy: "Halted" }), "Healthy", /is off/],
    ["one whose kernel panicked", told(panicked), "Degraded", /kernel panicked/],
    [
      "one that crashes again and again",
      told({ pod: endedPod(vm, { exitCode: 80, message: lastWord("ResetStorm") }) }),
      "Progressing",
      /ResetStorm/,
    ],
    [
      "one whose spec is newer than its status",
      { ...told(running), metadata: { generation: 4 } },
      "Progressing",
      /Waits/,
    ],
  ])("judges %s", (_what, object, status, message) => {
    const health = healthOf(object);
    expect(health.status).toBe(status);
    expect(health.message).toMatch(message);
  });
});
