import { randomUUID } from "node:crypto";
import type { Kubectl, Session } from "./kubectl.ts";
import { podOf, TEST_GUEST_READY } from "./vm.ts";

/** Bytes of a disk's sector. */
export const SECTOR_BYTES = 512;

const ANSWER_TIMEOUT_MS = 60_000;

/** A console session with a test guest, in which each answer is told from those of earlier questions. */
export class GuestSession implements AsyncDisposable {
  readonly #session: Session;

  private constructor(session: Session) {
    this.#session = session;
  }

  static async open(kubectl: Kubectl, name: string, pod = podOf(name)): Promise<GuestSession> {
    const session = kubectl.interactive(["exec", "-i", pod, "--", "console"]);
    await session.expect(TEST_GUEST_READY, ANSWER_TIMEOUT_MS);
    return new GuestSession(session);
  }

  /** What the guest prints upon one command, up to the end of its work. */
  async ask(command: string): Promise<string> {
    // What is printed between the two marks is the answer. The guest echoes what is typed: marks begin a line.
    const mark = randomUUID();
    this.#session.write(`echo begin ${mark}\r${command}\recho end ${mark}\r`);
    const between = new RegExp(`^begin ${mark}\\r?$([^]*)^end ${mark}\\r?$`, "m");
    return (await this.#session.expect(between, ANSWER_TIMEOUT_MS))[1] ?? "";
  }

  /** Name and size in bytes of a disk, counted from 0 in the order of the PCI bus. */
  async diskInfo(disk: number): Promise<{ name: string; sizeBytes: number }> {
    const [, name = "", sectors = ""] = await this.#expect(`blkid ${disk}`, /blkid status 0 name (\S*) sectors (\d+)/);
    return { name, sizeBytes: Number(sectors) * SECTOR_BYTES };
  }

  /** The first 8 bytes of a sector as a number, least significant byte first. */
  async readSector(disk: number, sector: number): Promise<bigint> {
    const [, data = ""] = await this.#expect(`blkread ${disk} ${sector}`, /blkread status 0 data (0x[0-9a-f]+)/);
    return BigInt(data);
  }

  /** Fills a sector with `value`, and has it reach the storage. */
  async writeSector(disk: number, sector: number, value: number): Promise<void> {
    await this.#expect(`blkwrite ${disk} ${sector} ${value}`, /blkwrite status 0/);
    await this.#expect(`blkflush ${disk}`, /blkflush status 0/);
  }

  async #expect(command: string, pattern: RegExp): Promise<RegExpExecArray> {
    const answer = await this.ask(command);
    const match = pattern.exec(answer);
    if (match === null) throw new Error(`the guest answers ${command} with: ${answer}`);
    return match;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }
}
