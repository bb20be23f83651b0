import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Disassembly {
  /** ASL source, or the annotated fields of a data table. */
  readonly source: string;
  /** What iasl makes of `source` again, without optimizing it. */
  readonly recompiled: Uint8Array;
}

/** For tests: takes a table apart with ACPICA's iasl and puts it together again; throws where iasl complains. */
export function disassemble(table: Uint8Array): Disassembly {
  const directory = mkdtempSync(join(tmpdir(), "typevisor-iasl-"));
  try {
    writeFileSync(join(directory, "table.aml"), table);
    iasl(directory, "-p", "source", "-d", "table.aml");
    iasl(directory, "-oa", "-we", "-p", "again", "source.dsl");
    return {
      source: readFileSync(join(directory, "source.dsl"), "latin1"),
      recompiled: readFileSync(join(directory, "again.aml")),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function iasl(cwd: string, ...args: string[]): void {
  let output: string;
  try {
    output = execFileSync("iasl", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (code === "ENOENT") throw new Error("iasl is missing: apt-get install acpica-tools", { cause: error });
    throw new Error(`iasl ${args.join(" ")} fails:\n${stdout}${stderr}`, { cause: error });
  }
  const complaint = /^.*(?:invalid checksum|incorrect checksum|error:|warning:).*$/im.exec(output);
  if (complaint) throw new Error(`iasl ${args.join(" ")}: ${complaint[0]}`);
}
