/** Ports that are counted one by one; a guest can touch 65536 of them, and a status must stay small. */
const MAX_PORTS = 32;
const OTHER_PORTS = "io:other";

/** Exits of the guest by kind. Frequent kinds are defects of performance. */
export class ExitCounter {
  readonly #ports = new Map<number, number>();
  readonly #kinds = new Map<string, number>();

  port(port: number): void {
    const count = this.#ports.get(port);
    if (count !== undefined) this.#ports.set(port, count + 1);
    else if (this.#ports.size < MAX_PORTS) this.#ports.set(port, 1);
    else this.kind(OTHER_PORTS);
  }

  /** "mmio", "hlt", ... */
  kind(kind: string): void {
    this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
  }

  snapshot(): Record<string, number> {
    const ports = [...this.#ports].map(([port, count]) => [`io:0x${port.toString(16)}`, count] as const);
    return Object.fromEntries([...ports, ...this.#kinds]);
  }
}
