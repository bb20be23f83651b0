import { type KubernetesObject, keyOf } from "./wire.ts";

/** Values under which an object is found in an index. */
export type IndexFunction<T> = (object: T) => readonly string[];

/** What happened to one object; `previous` is absent for a new one, `current` for a deleted one. */
export interface Change<T> {
  readonly key: string;
  readonly previous: T | undefined;
  readonly current: T | undefined;
}

/** More than are removed while an answer is under way. */
const REMOVED_MAX = 1024;

/**
 * The objects of one kind as last heard of, by key and by index.
 *
 * A write's own answer goes in through `put` as well, so that the next pass sees it without waiting for the watch.
 * What arrives out of order is told apart by resourceVersion, which compares as a number for objects of one resource
 * (Kubernetes KEP-5504).
 *
 * Invariant: each index holds exactly the keys of #objects whose index function gives that value.
 */
export class Store<T extends KubernetesObject> {
  readonly #objects = new Map<string, T>();
  readonly #indexFunctions: Readonly<Record<string, IndexFunction<T>>>;
  readonly #indexes = new Map<string, Map<string, Set<string>>>();
  readonly #handlers = new Set<(change: Change<T>) => void>();
  /** Versions at which the last objects went, latest at the end: answers of writes may come after the watch. */
  readonly #removed = new Map<string, number>();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;

  constructor(indexes: Readonly<Record<string, IndexFunction<T>>> = {}) {
    this.#indexFunctions = indexes;
    for (const name of Object.keys(indexes)) {
      this.#indexes.set(name, new Map());
    }
  }

  /** True once the first list has been taken in whole. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Resolves once the first list has been taken in whole. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  /** Objects for which the index function `index` gives `value`. */
  byIndex(index: string, value: string): T[] {
    const found: T[] = [];
    for (const key of this.#indexes.get(index)?.get(value) ?? []) {
      const object = this.#objects.get(key);
      if (object !== undefined) {
        found.push(object);
      }
    }
    return found;
  }

  /** Called after each change, with the store already changed. */
  onChange(handler: (change: Change<T>) => void): void {
    this.#handlers.add(handler);
  }

  /** Takes an object in, unless the store already knows a later state of it. */
  put(object: T): void {
    const key = keyOf(object);
    const previous = this.#objects.get(key);
    const knownVersion = previous === undefined ? this.#removed.get(key) : versionOf(previous);
    if (knownVersion !== undefined && knownVersion >= versionOf(object)) {
      return;
    }
    this.#set(key, previous, object);
  }

  /** Forgets an object, unless a later one has taken its name. */
  remove(object: KubernetesObject): void {
    const key = keyOf(object);
    const previous = this.#objects.get(key);
    if (previous !== undefined && versionOf(previous) > versionOf(object)) {
      return;
    }
    this.#remember(key, versionOf(object));
    if (previous !== undefined) {
      this.#set(key, previous, undefined);
    }
  }

  #remember(key: string, removedAtVersion: number): void {
    this.#removed.delete(key);
    this.#removed.set(key, removedAtVersion);
    const [oldest] = this.#removed.keys();
    if (this.#removed.size > REMOVED_MAX && oldest !== undefined) {
      this.#removed.delete(oldest);
    }
  }

  /** Takes in a whole list of `resourceVersion`, within which `covers` tells what the list would have shown. */
  replace(objects: readonly T[], resourceVersion: string, covers: (object: T) => boolean = () => true): void {
    const listed = new Set(objects.map(keyOf));
    for (const [key, object] of [...this.#objects]) {
      if (!listed.has(key) && covers(object) && versionOf(object) <= toVersion(resourceVersion)) {
        this.#remember(key, toVersion(resourceVersion));
        this.#set(key, object, undefined);
      }
    }
    for (const object of objects) {
      this.put(object);
    }
  }

  /** Declares the first list complete. */
  markSynced(): void {
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
  }

  #set(key: string, previous: T | undefined, current: T | undefined): void {
    if (previous !== undefined) {
      this.#index(key, previous, false);
    }
    if (current === undefined) {
      this.#objects.delete(key);
    } else {
      this.#objects.set(key, current);
      this.#index(key, current, true);
    }
    for (const handler of this.#handlers) {
      handler({ key, previous, current });
    }
  }

  #index(key: string, object: T, present: boolean): void {
    for (const [name, index] of this.#indexes) {
      for (const value of this.#indexFunctions[name]?.(object) ?? []) {
        const keys = index.get(value) ?? new Set<string>();
        if (present) {
          index.set(value, keys.add(key));
        } else if (keys.delete(key) && keys.size === 0) {
          index.delete(value);
        }
      }
    }
  }
}

function versionOf(object: KubernetesObject): number {
  return toVersion(object.metadata?.resourceVersion);
}

/** etcd revisions stay far below 2^53. */
function toVersion(resourceVersion: string | undefined): number {
  return Number(resourceVersion ?? "0");
}
