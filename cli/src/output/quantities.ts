const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes for people: three digits, e.g. "1.50 GiB". */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : digits(value)} ${UNITS[unit]}`;
}

/** Three digits: 1.23, 12.3, 123. */
export function digits(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** How long ago, as kubectl writes ages: 45s, 5m, 3h20m, 4d. "?" without a time. */
export function ageText(time: string | undefined, nowMs: number): string {
  const seconds = Math.floor((nowMs - Date.parse(time ?? "")) / 1000);
  if (Number.isNaN(seconds)) return "?";
  return durationText(Math.max(0, seconds));
}

function durationText(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return `${minutes}m${seconds % 60 === 0 ? "" : `${seconds % 60}s`}`;
  if (minutes < 180) return `${minutes}m`;
  if (hours < 8) return `${hours}h${minutes % 60 === 0 ? "" : `${minutes % 60}m`}`;
  if (hours < 48) return `${hours}h`;
  return `${days}d`;
}
