/** The middle one of the sorted numbers (the upper middle of an even count); NaN for none. */
export function median(numbers: readonly number[]): number {
  return percentile(numbers, 50);
}

/** The number that `percent` of the sorted numbers stand before; NaN for none. */
export function percentile(numbers: readonly number[], percent: number): number {
  const index = Math.min(numbers.length - 1, Math.floor((numbers.length * percent) / 100));
  return [...numbers].sort((a, b) => a - b)[index] ?? Number.NaN;
}

/** The medians of each field of `rows`, which all have the same fields. */
export function medians<T extends Readonly<Record<string, number>>>(rows: readonly T[], digits: number): T {
  const fields = Object.keys(rows[0] ?? {});
  const middle = (field: string) => round(median(rows.map((row) => row[field] ?? Number.NaN)), digits);
  return Object.fromEntries(fields.map((field) => [field, middle(field)])) as T;
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** Bytes in MiB with one decimal. */
export function mebibytes(bytes: number): number {
  return round(bytes / 2 ** 20, 1);
}

/** Columns under their names, numbers to the right. */
export function table(rows: readonly Readonly<Record<string, string | number>>[]): string {
  const names = Object.keys(rows[0] ?? {});
  const lines = [names, ...rows.map((row) => names.map((name) => row[name] ?? ""))];
  const widths = names.map((_, column) => Math.max(...lines.map((line) => String(line[column]).length)));
  const cell = (value: string | number, column: number, isNumber: boolean) =>
    isNumber ? String(value).padStart(widths[column] ?? 0) : String(value).padEnd(widths[column] ?? 0);
  return lines
    .map((line) => line.map((value, i) => cell(value, i, typeof rows[0]?.[names[i] ?? ""] === "number")).join("  "))
    .join("\n");
}
