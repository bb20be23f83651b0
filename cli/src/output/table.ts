/** Columns as kubectl aligns them: three spaces apart, nothing at the end of a line. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("   ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

/** "Key:   value" lines, values in one column; more lines of a value are indented with it. */
export function fields(pairs: readonly (readonly [key: string, value: string])[], indent = ""): string {
  const width = Math.max(0, ...pairs.map(([key]) => key.length)) + 2;
  return pairs
    .map(([key, value]) => {
      const [first = "", ...more] = value.split("\n");
      const rest = more.map((line) => `${indent}${" ".repeat(width + 1)}${line}`.trimEnd());
      return [`${indent}${`${key}:`.padEnd(width)} ${first}`.trimEnd(), ...rest].join("\n");
    })
    .map((line) => `${line}\n`)
    .join("");
}
