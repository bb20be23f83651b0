import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { capabilities, constants, exitReasons, requests, structs } from "./layouts.ts";

const numbers = { ...requests, ...capabilities, ...constants, ...exitReasons };

/** Expressions of C, by the name that the answers are found under. */
function questions(): Map<string, string> {
  const asked = new Map<string, string>();
  for (const name of Object.keys(numbers)) asked.set(name, `(unsigned)${name}`);
  for (const [name, layout] of Object.entries(structs)) {
    asked.set(`sizeof ${name}`, `sizeof(struct ${name})`);
    for (const field of Object.keys(layout.at)) asked.set(`${name}.${field}`, `offsetof(struct ${name}, ${field})`);
  }
  return asked;
}

const answers = new Map<string, number>();
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "layouts-"));
  const prints = [...questions()].map(([name, c]) => `printf("${name}=%llu\\n", (unsigned long long)(${c}));`);
  const source = ["#include <linux/kvm.h>", "#include <stddef.h>", "#include <stdio.h>"];
  source.push("int main(void) {", ...prints, "return 0; }");
  writeFileSync(join(directory, "ask.c"), source.join("\n"));
  execFileSync("cc", ["-o", join(directory, "ask"), join(directory, "ask.c")]);
  for (const line of execFileSync(join(directory, "ask"), { encoding: "utf8" }).trim().split("\n")) {
    const [name = "", value] = line.split("=");
    answers.set(name, Number(value));
  }
});

afterAll(() => rmSync(directory, { recursive: true }));

describe("the C headers agree", () => {
  it.each(Object.entries(numbers))("that %s is %i", (name, value) => {
    expect(answers.get(name)).toBe(value);
  });

  it.each(Object.entries(structs))("on struct %s", (name, layout) => {
    expect(answers.get(`sizeof ${name}`)).toBe(layout.sizeBytes);
    for (const [field, offset] of Object.entries(layout.at))
      expect([field, answers.get(`${name}.${field}`)]).toEqual([field, offset]);
  });
});
