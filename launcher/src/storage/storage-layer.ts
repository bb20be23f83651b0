import { CodecError } from "../codec/codec-error.ts";
import type { IoVector } from "./io-vector.ts";
import type { OverlayBudget } from "./overlay-budget.ts";
import type { IoCompletion, Storage } from "./storage.ts";

/** A disk in front of another: hands everything on. Subclasses step in between. */
export abstract class StorageLayer implements Storage {
  readonly grow?: (sizeBytes: number) => Promise<void>;
  readonly overlay?: OverlayBudget;
  protected readonly below: Storage;

  constructor(below: Storage) {
    this.below = below;
    if (below.overlay) this.overlay = below.overlay;
    if (below.grow) this.grow = (sizeBytes) => below.grow?.(sizeBytes) ?? Promise.resolve();
  }

  get sizeBytes(): number {
    return this.below.sizeBytes;
  }

  get readOnly(): boolean {
    return this.below.readOnly;
  }

  get logicalBlockBytes(): number {
    return this.below.logicalBlockBytes;
  }

  get physicalBlockBytes(): number {
    return this.below.physicalBlockBytes;
  }

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.below.read(offsetBytes, vector, completion);
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.below.write(offsetBytes, vector, completion);
  }

  flush(completion: IoCompletion): void {
    this.below.flush(completion);
  }

  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.below.discard(offsetBytes, lengthBytes, completion);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    this.below.writeZeroes(offsetBytes, lengthBytes, mayUnmap, completion);
  }

  abandon(): void {
    this.below.abandon?.();
  }

  release(): void {
    this.below.release?.();
  }

  claim(): void {
    this.below.claim?.();
  }

  saveState(): Uint8Array {
    return this.below.saveState?.() ?? new Uint8Array(0);
  }

  restoreState(state: Uint8Array, version: number): void {
    if (this.below.restoreState) this.below.restoreState(state, version);
    else if (state.length > 0) throw new CodecError("state of another kind of disk");
  }

  hurry(): void {
    this.below.hurry?.();
  }

  async close(): Promise<void> {
    this.abandon();
    await this.below.close();
  }
}
